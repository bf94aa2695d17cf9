"""Soundscapes mixed from labelled recordings and backgrounds, with exact labels.

`split` shares recordings and backgrounds out, `schedule` decides what is heard when, `sound` holds
the signal processing, `render` makes one soundscape, `tables` writes the labels, and `test_bed`
puts it all into a folder.
"""
