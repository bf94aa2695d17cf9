"""Ways of predicting recordings, measured by `tools.benchmark predict`.

`run_way` is the process of one measurement.
"""
