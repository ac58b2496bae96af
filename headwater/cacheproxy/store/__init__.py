"""What a node keeps: RAM over disk, what was purged of it, what was renewed, and who of the workers owns a key."""
