"""Combines sources of a training.

`mix` makes one source of several, `background` draws the rows that are mixed into samples,
`soft_targets` reads the targets that replace labels, `segments` those of labelled segments,
`teacher` the embeddings that are learned in addition.
"""
