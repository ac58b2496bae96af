"""Authoritative DNS that maps a logical host and a viewer's network to edges."""
