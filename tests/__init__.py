"""What is promised, as tests."""
