"""What follows a video's deletion: its objects, its master and its parts go, and caches are told."""
