"""The one caching reverse proxy that edge and shield are roles of."""
