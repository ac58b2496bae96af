"""Grants: mint, verify, keys and their rotation."""
