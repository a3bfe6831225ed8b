"""Bytes in: probe, index, plan, decode to frames."""
