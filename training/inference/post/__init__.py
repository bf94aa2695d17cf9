"""Post-processing of predictions: steps in the order of the config, and blending of branches.

step <- neighbours, file_level, scale, groups, priors, ranks, calibrated <- chain; blend
"""
