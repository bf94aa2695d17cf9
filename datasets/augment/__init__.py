"""Augments batches, on the host as they are read and on the device as they arrive.

`pipeline` applies the augmentations: `level` (gain, noise, filters), `place` (shift, masks,
patches), `mix` (partners of the batch), each with the random numbers of `draws`. Before them all
`inject` makes samples of a batch and adds the partners that the plan has drawn; `power` adds sounds
at their true levels. `host_images` runs transforms of albumentations in the reader.
"""
