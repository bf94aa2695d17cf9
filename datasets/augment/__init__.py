"""TODO datasets/augment."""
