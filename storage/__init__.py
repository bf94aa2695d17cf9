"""Recordings on disk, cut into mel slices once.

A short tour, in the order in which a recording passes through:

* `source`: the folder and csv that somebody brings; `probe`: a first look at each file
* `audio`, `slices`, `mel`, `encoding`, `features`: a file becomes blocks, slices, decibels, cells
* `part_plan`, `part`, `workers`, `build`: which recordings are built together, the building of one
  part and its commit, the processes, the whole; `state`, `settle`: what is there, what must go
* `objects`, `zarr_shards`, `tables`, `manifest`, `catalog`: what lies on disk, byte by byte
* `store`, `extents`, `sql`: reading it again

This layer knows nothing of folds, batches or models.
"""
