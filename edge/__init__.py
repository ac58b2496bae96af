"""Viewer-facing cache: a role of the caching proxy that verifies grants."""
