"""Source of a build: the recordings that the user brings.

`table` reads a source: the csv by `csv_text`, its cells by `cells` and `label_lists`, the folder or
bucket by `files` and `listing`; `matching` joins names and files, `recordings` makes recordings of
rows, `segments` refuses tables of labelled segments. `subset` is the part that `limit` takes;
`probe` hashes files and reads their headers, `copies` shares the labels of equal ones. `kinds`
distinguishes audio files from folders of slices, which `npy_folder` reads. The rules are in
docs/tables.md.
"""
