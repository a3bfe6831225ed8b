"""How pixels travel between services: shared memory where both ends see it, else inline."""
