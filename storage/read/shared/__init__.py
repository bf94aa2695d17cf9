"""Keeps what all processes of a machine share of the tables of large stores, in mapped files.

`column_file` maps columns of tables without a copy, `derived_files` writes and clears the files,
and `store_tables` makes those of a store: recordings, slices, checksums. `slice_numbers` finds
slices by row without a table of them. The Parquet tables remain the truth: a file that is missing
or damaged is made again.
"""
