"""Tables that queries read besides the store's own, and named queries over them.

`tables` opens them, `oof` computes columns of out-of-fold predictions, `named` has the queries.
Needs no torch.
"""
