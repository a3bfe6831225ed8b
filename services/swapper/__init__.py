"""A face onto a face: engines behind one interface."""
