"""Typed configuration, loaded from YAML and checked as a whole before anything starts."""
