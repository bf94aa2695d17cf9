"""Config sections and sources of commands that work on a training."""

from contextlib import suppress
from dataclasses import dataclass

from datasets.slice_source import SliceSource
from datasets.sources.mix import open_source, open_sources
from storage.errors import ConfigError, MelbankError
from storage.format.manifest import Manifest
from storage.objects.open import open_objects
from storage.objects.urls import is_remote
from storage.options import option
from tools.cli.config import StoreSection
from training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class TrainSections(TrainingConfig, StoreSection):
    """Config sections of this command."""

    shards: str = option("", "folder of the tar shards; left out, the store itself is read")


def open_training(config: TrainSections) -> SliceSource:
    """The source that a config names, or the mix of several."""
    if not config.sources:
        source = open_source(store=config.store, shards=config.shards, remote=config.remote)
        if config.shards and not is_remote(config.store):
            _say_if_of_another_store(source, config)
        return source
    if config.shards:
        raise ConfigError(f"shards={config.shards} together with sources: give it as one of them")
    return open_sources(config.sources, config.remote)


def _say_if_of_another_store(source: SliceSource, config: TrainSections) -> None:
    """Says that `store` is not read, where it is there and the shards are not its."""
    with suppress(MelbankError):  # most often there is none: it may be the default
        other = Manifest.read(open_objects(config.store, remote=config.remote))
        if other.store_id != source.store_id:
            print(f"store={config.store} is not read: shards={config.shards} are of another store")


def open_background(config: TrainSections) -> SliceSource | None:
    """The source of backgrounds that a config names, if it does."""
    behind = config.background
    if not behind.given:
        return None
    return open_source(store=behind.store, shards=behind.shards, remote=config.remote)


def check_epoch(epoch: int) -> None:
    """Raises ConfigError on an epoch that no training has."""
    if epoch < 0:
        raise ConfigError(f"--epoch {epoch} must be at least 0, the first one")
