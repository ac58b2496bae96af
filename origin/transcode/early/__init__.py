"""The first window of a video, made while its upload still goes on."""
