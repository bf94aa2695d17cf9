"""Outputs of predictions: tables, label files of other programs, a submission, excerpts.

`detect` makes detections of windows, with `class_lists` and `merging`; one module for each format
writes them; `write` passes all recordings through all formats once.
"""
