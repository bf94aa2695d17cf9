"""Maintenance of a finished store.

`verify` checks its integrity, `repair` rebuilds damaged parts, `compact` frees unused space, `copy`
describes it to `storage.objects.sync`, `npy_export` writes it as .npy files.
"""
