"""Builds a store from a source.

`build` runs it: `reconcile` compares store and source, `plan` cuts the work into parts, `workers`
(or `dask`) map them over processes, `part` builds one with `slice_maker`. `forecast` reports a
build without doing it.
"""
