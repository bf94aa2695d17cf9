"""TODO storage/source."""
