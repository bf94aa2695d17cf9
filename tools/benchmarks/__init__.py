"""The benchmarks, one module each, and what they share.

* `build`: recordings into slices. `recordings` lays out the audio, `build_variants` and
  `mel_alone` are what its subprocesses run, `notebook` is the usual way, `build_report` the tables
* `store_read`: slices out of a store; `peers` are the other ways of keeping arrays
* `read`: slices into training, against other loaders. `ways` has one module for each way of
  keeping and reading slices; `read_ways` lists and runs them, `read_environments` installs peers,
  `read_slices` and `read_plans` say what is read, `page_cache` makes it cold, `read_report` tables
* `remote`: slices out of a bucket, against other loaders; `remote_ways` lists, uploads and runs
  them, `remote_report` tables
* `plan`: epochs of millions of slices; `plan_run` is what its subprocesses run
* `augment`, `step`: what augmentation and reading add to a training step, which `train_step` takes;
  `gpu_trace` watches a GPU meanwhile
* `query`: an index of millions of rows, made by `synthetic_index`
* `process`: runs a subprocess and measures it; `report`: tables, Markdown, the machine; `chart`;
  `work_folder`
"""
