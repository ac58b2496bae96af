"""Ingest, transcode, catalogue, storage tiers, the API and pages, and the byte server for shields."""
