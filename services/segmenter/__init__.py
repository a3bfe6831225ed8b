"""Mattes: who is foreground."""
