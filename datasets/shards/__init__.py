"""TODO datasets/shards."""
