"""Source of a build: the recordings that the user brings.

`table` reads the csv, `files` lists the folder or bucket, `probe` hashes files and reads their
headers, `kinds` distinguishes audio files from folders of slices, which `npy_folder` reads.
"""
