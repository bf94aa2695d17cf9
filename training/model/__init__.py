"""TODO training/model."""
