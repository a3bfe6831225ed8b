"""Who may call the public doors, how often, and over which wire."""
