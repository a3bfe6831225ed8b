"""Stored inputs of tenants: uploaded, listed, given back, deleted; the public half of ingest."""
