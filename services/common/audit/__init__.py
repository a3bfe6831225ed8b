"""The audit log: who did what to whose face, in a chain in which no line can be changed unseen."""
