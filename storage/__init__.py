"""Recordings on disk, cut into mel slices once.

A short tour, in the order in which a recording passes through:

* `source`: the folder and csv that somebody brings; `probe`: a first look at each file;
  `recording_files`: here or in a bucket
* `soundness` with `ogg_pages`, `mpeg_frames`, `pcm_sizes`: does a file hold what it promises?
* `audio`, `slices`, `mel`, `encoding`, `features`: a file becomes blocks, slices, decibels, cells
* `recipe`: the numbers that all of this depends on; `filterbank` is made from it
* `intake`, `slice_maker`: the switch between audio and slices made elsewhere, `npy_folder`
* `part_plan` with `slice_counts`, `part` with `part_job`, `workers`, `dask_cluster`, `build`: which
  recordings are built together, the building of one part and its commit, the processes, the
  machines, the whole; `state`, `settle`: what is there, what must go; `forecast`: what a build
  would do; `builder_lock`: one at a time
* `objects`, `remote`, `remote_objects`, `remote_errors`: a folder or a bucket, the same questions;
  `sync` with `store_sync` and `copy_mark`: a copy in another place
* `zarr_shards`, `zarr_array`, `tables`, `manifest`, `catalog`: what lies on disk, byte by byte
* `verify`, `repair`, `compact`: any changed byte is found, mended; space is freed
* `store`, `extents`, `sql`, `late_join`: reading it again; `npy_export`: writing it as others want
* `slice_reader`: extents of files and of buckets by one reader; `remote_extents`, `merge_ranges`,
  `fetch`, `pace`, `background_loop`: by ranged requests; `shard_cache`, `shard_downloads`: from
  shards brought here whole; `shard_use`: which of the two
* `errors`, `options`, `progress`: what all layers raise, configure and tell

This layer knows nothing of folds, batches or models.
"""
