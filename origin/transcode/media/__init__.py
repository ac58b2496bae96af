"""What is in a media file: boxes, streams, packets, and the judgement on them."""
