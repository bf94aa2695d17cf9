"""Benchmarks of reading: `slices` prepares the data and `plans` the tasks of the `contenders`.

`contest` runs those, each in a process of its own.
"""
