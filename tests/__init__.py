"""What is promised, in sentences that can fail."""
