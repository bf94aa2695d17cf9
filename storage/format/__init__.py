"""Format of a store on disk.

`manifest` identifies the store, `catalog` lists its committed tables, `tables` defines their
columns, `zarr_metadata`, `zarr_shards` and `chunk_codecs` encode the slice array, `state` reads it
all.
"""
