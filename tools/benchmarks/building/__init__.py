"""Benchmark of building: variants, their runs, and the report.

`variants` names them, `librosa_baseline` is the usual loop, `mel_only` compares the transform
alone, `report` gives medians and ratios.
"""
