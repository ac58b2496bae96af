"""Events of the origin: what leaves it, at least once, when something has become true."""
