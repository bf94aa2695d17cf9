"""Writes, opens, checks, copies and indexes sets of tar shards.

`format` names the files; `plan` assigns recordings to shards, `encode` writes one tar, `state`
records progress and commits, `writer` runs these, all or a share. `shard_set` opens a set, `verify`
checks it, `copy` describes it to `storage.objects.sync`. `scan`, `members`, `grouping` and
`reindex` build the side index from the tars alone.
"""
