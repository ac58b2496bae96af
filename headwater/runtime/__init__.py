"""Process plumbing: a role's life, sockets, drain, snapshots, metrics, logs."""
