"""The process pipe: probe, plan, encode, package, publish."""
