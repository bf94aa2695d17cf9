"""Measurement shared by the benchmarks.

`process` runs and measures a process, `runs` has contenders in turn, their medians and tables,
`page_cache` fills and empties that of the machine, `recordings` and `synthetic_index` make inputs,
`train_step` takes steps, `chart` draws results.
"""
