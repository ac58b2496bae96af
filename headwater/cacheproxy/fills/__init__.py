"""Fetching objects from parents: one fill an object, shared by all who ask."""
