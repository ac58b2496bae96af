"""Orders to caches: purges, and objects fetched ahead of viewers."""
