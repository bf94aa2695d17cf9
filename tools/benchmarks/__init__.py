"""Benchmarks, one module for each, named as in `python -m tools.benchmark NAME`.

* `build`: recordings into slices, against librosa in a notebook's loop (`building`)
* `store_read`, `read`, `remote`: slices out of a store, into training, out of a bucket, against
  other loaders (`reading`; `ways` has the program of each contender, run in its own environment)
* `codecs`: size of packed slices, and time of packing, unpacking and reading them
* `plan`, `query`: epoch plans and queries over millions of slices
* `augment`, `step`: cost of augmentations and of reading in a training step

`harness` runs and measures processes, prepares recordings and the page cache, and draws charts.
"""
