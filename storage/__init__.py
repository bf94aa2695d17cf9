"""Recordings on disk, cut into mel slices once.

In the order in which a recording passes through:

* `source`       the folder and csv that the user brings, and a probe of each file
* `audio`        bytes of a file -> blocks -> slices -> decibels -> cells, by a `recipe`
* `build`        plans parts, builds them in processes, commits, reconciles with the source
* `format`       the store on disk: zarr shards, tables, manifest, catalogue
* `read`         extents and tables, of files or of object stores; `store` opens a store
* `maintenance`  verify, repair, compact, copy, export
* `objects`      folders, buckets and web servers with one interface, for all of these
* `errors`, `options`, `progress`, `checksums`, `output_files`  shared by all

The layer is independent of folds, batches and models.
"""
