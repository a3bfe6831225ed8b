"""Where artifacts live: one interface, a folder or S3 behind it."""
