"""TODO storage/build."""
