"""Simulated viewers, scenarios with objectives, reports."""
