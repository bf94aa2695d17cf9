"""Plans epochs: (recordings, config, seed, epoch) -> rows in order.

`epoch_plan` composes `candidates` (rows that may be drawn), `balance` and `class_limits` (draws per
recording), `slice_choice` (slices of a recording), `pools` (substitutes and partners, drawn by
`partners`) and `shuffle` (order), by their `config`. `draw_weights` are weights of recordings and
slices, from `facts`: `top_targets` and `voice`. `user_functions` loads functions that a config
names.
"""
