"""What viewers get: renditions checked, playlists and manifests, shown as they grow."""
