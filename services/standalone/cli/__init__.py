"""The command `masquerade`: one file a command."""
