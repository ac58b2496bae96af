"""Other protocols over the one ledger: each a thin translation into origin/uploads/streams.py, its fields parsed apart."""
