"""TODO tools/benchmarks/building."""
