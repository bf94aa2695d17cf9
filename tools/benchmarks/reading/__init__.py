"""Benchmarks of reading: `slices` prepares the data and `plans` the tasks of `contenders`.

`contest` runs them, each in a process of its own; `bucket` is the object store of `remote`.
"""
