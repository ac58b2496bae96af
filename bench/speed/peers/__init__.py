"""One small file a peer: its config template and how it is started. `None` instead of a server says that it is not installed."""
