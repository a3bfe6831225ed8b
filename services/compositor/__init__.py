"""Frames out: blend, background, encode; assemble, verify, finalise the file."""
