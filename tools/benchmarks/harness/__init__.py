"""Measurement shared by the benchmarks.

`process` runs and measures a process, `page_cache` and `gpu_trace` control and observe the machine,
`recordings`, `synthetic_index` and `work_folder` make inputs, `chart` draws results.
"""
