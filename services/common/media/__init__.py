"""Containers opened safely, and what is known of a video before it is decoded."""
