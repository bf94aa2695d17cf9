"""TODO storage/objects."""
