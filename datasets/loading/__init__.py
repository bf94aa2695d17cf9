"""TODO datasets/loading."""
