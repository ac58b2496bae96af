"""Storage tiers: hot, warm, cold; objects move by their popularity, and no viewer waits for a move."""
