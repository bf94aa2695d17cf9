"""The classes of a taxonomy reach shards and mixes, and training may learn them."""

from dataclasses import dataclass

from datasets.shards.copy import plan_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import write_shards
from datasets.slice_source import source_classes
from datasets.sources.mix import MixedSource, SourceMix
from storage.objects.open import open_objects
from tests.fakes import FakeSource, write_fake_source
from tests.shard_sets import LENGTHS, SMALL_SHARDS


@dataclass(frozen=True, kw_only=True)
class Classified(FakeSource):
    """A fake source that knows the classes of a taxonomy."""

    classes: tuple[str, ...] = ()


def test_classes_follow_the_slices(tmp_path):
    plain = write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)
    fields = {name: getattr(plain, name) for name in FakeSource.__dataclass_fields__}
    url = str(tmp_path / "shards")
    for classes in (("a", "b", "c", "emu"), ()):
        write_shards(Classified(**fields, classes=classes), url, SMALL_SHARDS)
        shards = open_shards(url)
        assert source_classes(shards) == classes
        names = [item.name for item in plan_shards(open_objects(url)).tables]
        assert ("classes.json" in names) == bool(classes)
        mix = SourceMix([MixedSource(name="x", source=shards)])
        assert source_classes(mix) == classes
    assert source_classes(plain) == ()
