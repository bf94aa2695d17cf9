"""Report of a store, and of an experiment on it, as one HTML file that needs no other.

`page` makes HTML, `store_part` and `experiment_part` the sections.
"""
