"""Ranged requests or whole shards in the cache: what a plan reads decides. Pure functions."""

from dataclasses import dataclass

from storage.objects.client import CACHED, RANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardUse:
    """Bytes that an epoch reads from object stores: its slices, and the shards that hold them.

    `shard_bytes` is 0 where all of it is on this machine.
    """

    needed_bytes: int = 0
    shard_bytes: int = 0

    def __add__(self, other: "ShardUse") -> "ShardUse":
        return ShardUse(
            needed_bytes=self.needed_bytes + other.needed_bytes,
            shard_bytes=self.shard_bytes + other.shard_bytes,
        )


def choose_mode(use: ShardUse, *, num_epochs: int, cache_bytes: int) -> tuple[str, str]:
    """Chooses the mode that costs fewer bytes over the remaining epochs; returns it and why.

    Ranged requests bring the slices of an epoch, again in each epoch; the cache brings whole
    shards, once. Shards that do not all fit into the cache are never cached: in the random order
    of training each would be deleted before it is used again, and every epoch would bring all.
    """
    ranged = f"{num_epochs} epochs by ranged requests are {_gb(use.needed_bytes * num_epochs)}"
    whole = f"the shards are {_gb(use.shard_bytes)}"
    if use.shard_bytes > cache_bytes:
        return RANGED, f"{whole}, the cache takes {_gb(cache_bytes)}; remote.cache_size_gb="
    if use.needed_bytes * num_epochs < use.shard_bytes:
        return RANGED, f"{ranged}, {whole}"
    return CACHED, f"{ranged}, {whole}, which fit into the cache"


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
