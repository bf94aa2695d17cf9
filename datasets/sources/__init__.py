"""TODO datasets/sources."""
