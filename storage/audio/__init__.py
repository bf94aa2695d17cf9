"""TODO storage/audio."""
