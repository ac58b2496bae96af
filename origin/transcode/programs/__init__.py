"""Programs run as children: which ffmpeg, its limits, its end."""
