"""Looking through a store: filtered and sorted slices, their scores, neighbours, reviews.

`exploration` opens everything of one store, `frame` has the slices, `views` finds and sorts them.
Knows nothing of the web; `tools.exploring` serves it.
"""
