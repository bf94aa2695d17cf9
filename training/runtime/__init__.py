"""TODO training/runtime."""
