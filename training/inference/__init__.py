"""From trained models and new recordings to species with times.

`predictions` is the interface between predicting, post-processing and outputs.
"""
