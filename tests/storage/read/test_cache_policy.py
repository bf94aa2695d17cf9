"""The cheaper way in bytes, and never a cache that cannot hold what is read."""

import pytest

from storage.objects.client import CACHED, RANGED
from storage.read.cache_policy import ShardUse, choose_mode

GB = 10**9


@pytest.mark.parametrize(
    ("needed", "shards", "epochs", "cache", "mode"),
    [
        pytest.param(1 * GB, 15 * GB, 20, 20 * GB, CACHED, id="20 epochs of a slice each"),
        pytest.param(1 * GB, 15 * GB, 14, 20 * GB, RANGED, id="fewer epochs than shards are worth"),
        pytest.param(1 * GB, 15 * GB, 15, 20 * GB, CACHED, id="equal bytes: the later are free"),
        pytest.param(1 * GB, 15 * GB, 20, 14 * GB, RANGED, id="a cache too small"),
        pytest.param(15 * GB, 15 * GB, 1, 20 * GB, CACHED, id="all of it once"),
        pytest.param(15 * GB, 15 * GB, 9, 0, RANGED, id="no cache at all"),
        pytest.param(14 * GB, 15 * GB, 1, 15 * GB, RANGED, id="nearly all of it once"),
    ],
)
def test_the_rule_by_example(needed: int, shards: int, epochs: int, cache: int, mode: str) -> None:
    use = ShardUse(needed_bytes=needed, shard_bytes=shards)
    chosen, reason = choose_mode(use, num_epochs=epochs, cache_bytes=cache)
    assert chosen == mode
    assert f"the shards are {shards / GB:.2f} GB" in reason


def test_uses_of_several_sources_add_up() -> None:
    total = ShardUse(needed_bytes=1, shard_bytes=5) + ShardUse(needed_bytes=2, shard_bytes=7)
    assert total == ShardUse(needed_bytes=3, shard_bytes=12)
