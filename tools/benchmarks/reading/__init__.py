"""Benchmark of reading: contenders, their runs, and reports.

`slices` prepares the data and `plans` the tasks; `contenders` and `remote_contenders` run each
format in a process, the reports give medians and ratios.
"""
