"""Processes of the build benchmark.

`variants` has each way of making slices, `librosa_baseline` the usual loop; `mel_only` compares the
transform alone.
"""
