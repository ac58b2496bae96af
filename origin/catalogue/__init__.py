"""Metadata: SQLAlchemy Core on SQLite (WAL) or PostgreSQL. The byte plane never waits for it."""
