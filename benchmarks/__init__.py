"""Ratios against a baseline taken in the same run; nothing here passes or fails."""
