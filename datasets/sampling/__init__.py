"""Plans epochs: (recordings, config, seed, epoch) -> rows in order.

`epoch_plan` composes `candidates` (rows that may be drawn), `balance` (draws per recording),
`slice_choice` (slices of a recording) and `shuffle` (order); `user_functions` loads functions that
a config names.
"""
