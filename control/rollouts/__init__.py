"""From one config to the next: plans, steps, gates, warm handoff, rollback."""
