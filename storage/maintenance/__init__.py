"""TODO storage/maintenance."""
