"""TODO training/experiments."""
