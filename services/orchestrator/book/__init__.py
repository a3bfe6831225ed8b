"""The book of jobs: what callers are told of them, and in which order they begin. Plain functions of a connection."""
