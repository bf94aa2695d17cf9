"""TODO tools/testbed."""
