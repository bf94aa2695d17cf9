"""Synthetic birdsong in the layout of BirdCLEF, for the demo and for tests.

`species` lists the notes of sixteen invented species, `voices` makes waveforms of them, and
`recordings` plans a folder of recordings and writes audio files and tables.
"""
