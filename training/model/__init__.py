"""Models and what they learn by: everything that has tensors with gradients.

`models` builds networks, `losses` and `metrics` judge them, `optimizers` and `averaging` update
their weights, `checkpoints` keeps these, `predict` writes probabilities and embeddings.
"""
