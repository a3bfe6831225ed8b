"""The public door to jobs."""
