"""Reads slices and tables, locally and from object stores.

`slice_reader` reads `extents` of files, and with `ranged` those of object stores: `coalesce` merges
them, `requests` and `range_queue` fetch them on `event_loop`. `cache`, `downloads` and
`cache_policy` keep complete shards on disk. `slice_table` and `sql` query the tables, within
`sql_bounds`; `shared` maps what processes share of large stores. `pictures` shows slices.
"""
