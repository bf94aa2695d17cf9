"""TODO tools/benchmarks/harness."""
