"""Builds a store from a source.

`build` runs it, in `rounds`: `reconcile` compares store and source, `plan` cuts the work into
parts, `workers` (or `dask`) map them over processes, `part` builds one with `slice_maker`. `shares`
lets several builders share the parts, and `probing` the first look at the files. `forecast` reports
a build without doing it.
"""
