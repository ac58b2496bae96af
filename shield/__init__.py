"""Mid-tier cache between edges and origin: a role of the caching proxy that serves known edges only."""
