"""The byte server that shields ask: published objects from the storage tiers."""
