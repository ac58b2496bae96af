"""What Headwater's processes share: pure rules, settings, process plumbing, the caching proxy and the command."""

__version__ = "0.1.0"
