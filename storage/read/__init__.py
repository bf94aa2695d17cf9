"""TODO storage/read."""
