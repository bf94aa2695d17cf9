"""Similarity: nearest slices by their embeddings, and maps of a collection.

`space` measures, `search` finds the nearest, `query` says to what, `agreement` judges an embedding
by its neighbours' labels, and `maps` draws all slices in two dimensions.
"""
