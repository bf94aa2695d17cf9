"""Files of slices that a command has found, and of verdicts on them."""
