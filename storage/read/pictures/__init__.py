"""Slices of a store to look at: thumbnails, and a store in a notebook."""
