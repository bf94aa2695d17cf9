"""From slices to batches: which slice is seen when, and getting it there fast.

A tour, in the order of the data:

1. `slice_source`  what is read from: a store, or tar shards; the rest of the layer knows no other.
   `shard_writer` makes shards of a store and keeps them up to date (`shard_plan`, `shard_state`,
   `shard_encode`, `shard_format`); `shard_index` opens them, `shard_verify` checks them,
   `shard_sync` says what a copy of them holds, and `shard_rebuild` indexes the tars of others
   (`shard_scan`, `shard_sample`, `shard_labels`).
   `source_mix` makes one source of several.
2. `labels`, `folds`  recordings -> target vectors, and which recordings are held out. `targets`
   puts soft ones in their place (`soft_sources`).
3. `epoch_plan`  (recordings, config, seed, epoch) -> rows in order. Pure. `balance` says how often
   a recording is drawn, `slice_choice` which of its slices, `candidates` which of them may be,
   `strategies` finds functions of your own, `shuffle` orders them, `randomness` replaces
   generators. `background` says what lies behind each sample.
4. `reader`  plan -> batches: `rank_share` picks this rank's positions, `batch_maker` looks up and
   reads them, `prefetch` does so ahead in one thread, `buffers` reuses memory, `quarantine` names
   what cannot be read. `data_loader` is for programs that want torch's DataLoader.
5. `batch`  what arrives; `image_transforms` has changed it on the host where asked to, `augment`
   changes it on the device (`augment_level`, `augment_place`, `augment_mix`; `samples` holds what
   they draw).

Every decision is in the plan, so what is seen does not depend on files, workers or ranks.
"""
