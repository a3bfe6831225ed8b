"""Faces in frames, people in a video."""
