"""Measurements: side by side with peers, and of choices that were made by measuring."""
