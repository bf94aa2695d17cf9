"""TODO datasets/sampling."""
