"""Jobs: the plan, the durable workflow, the public API."""
