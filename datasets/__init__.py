"""From slices to batches: chooses which slice is seen when, and reads it fast.

In the order of the data:

1. `slice_source`  the interface to a store or tar shards; the layer knows no other. `shards`
   writes, opens, checks and indexes tar shards. `sources` makes one source of several, and picks
   backgrounds and soft targets.
2. `labels`, `folds`, `targets`  recordings -> target vectors, and the recordings held out.
3. `sampling`  (recordings, config, seed, epoch) -> rows in order: the epoch plan. Pure;
   `randomness` replaces generators.
4. `loading`  epoch plan -> batches of one rank, read ahead in one thread.
5. `batch`  the record that arrives; `augment` changes it, on the host or on the device.

Every decision is in the plan, so the samples seen do not depend on files, workers or ranks.
"""
