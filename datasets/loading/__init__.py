"""Carries out an epoch plan: reads the batches of one rank.

`reader` iterates by its `config`, `rank_share` picks the rank's positions, `batch_maker` makes
their batches of the slices and chunks that `wanted` looks up and reads, `prefetch` does so ahead in
a thread, `buffers` reuses memory, `quarantine` retries and sets aside unreadable slices.
`torch_dataset` adapts the reader to torch's DataLoader.
"""
