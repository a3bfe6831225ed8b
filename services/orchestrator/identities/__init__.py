"""Enrolled identities: making them, showing them, erasing them."""
