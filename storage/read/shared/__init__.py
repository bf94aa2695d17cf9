"""Keeps what all processes of a machine share of the tables of large stores, in mapped files.

`derived_files` writes and clears them; `checksum_table` has the checksums of slices, `column_file`
columns of tables, which `arrow_columns` gives to Polars without a copy. `store_tables` makes those
of a store. The Parquet tables remain the truth: a file that is missing or damaged is made again.
"""
