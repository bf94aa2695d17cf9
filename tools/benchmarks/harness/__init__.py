"""Measurement shared by the benchmarks.

`process` runs and measures a process, `runs` has contenders in turn, their medians and tables,
`page_cache` and `gpu_trace` control and observe the machine, `recordings` and `synthetic_index`
make inputs, `chart` draws results.
"""
