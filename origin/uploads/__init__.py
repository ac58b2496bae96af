"""The write pipe: parts straight into the object store, a ledger in the catalogue."""
