"""TODO tools/benchmarks/reading."""
