"""What tests stand on: real servers, started and stopped by their own id."""
