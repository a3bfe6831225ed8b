"""The six in one process, and the command masquerade."""
