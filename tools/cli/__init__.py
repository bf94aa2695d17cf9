"""TODO tools/cli."""
