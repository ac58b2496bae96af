"""The origin's API and pages."""
