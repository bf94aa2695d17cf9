"""Augments batches, on the host as they are read and on the device as they arrive.

`pipeline` applies the augmentations: `level` (gain, noise, filters), `place` (shift, masks,
patches), `mix` (partners of the batch), each with the random numbers of `draws`. `host_images`
runs transforms of albumentations in the reader.
"""
