"""The benchmarks, one module each, and what they share.

* `build`: recordings into slices. `recordings` lays out the audio, `build_variants` and
  `mel_alone` are what its subprocesses run, `notebook` is the usual way, `build_report` the tables
* `store_read`: slices out of a store; `peers` are the other ways of keeping arrays
* `query`: an index of millions of rows, made by `synthetic_index`
* `process`: runs a subprocess and measures it; `report`: tables, Markdown, the machine; `chart`
"""
