"""Desired config, snapshots for every node, health, operator API and page."""
