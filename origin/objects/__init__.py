"""Objects: one interface over local files and S3."""
