"""TODO storage/format."""
