"""Kinds of recordings: audio files, or folders of slices that another program has made.

The recipe's origin decides. This is all that planning has to know of them, and needs no torch;
`slice_maker` is its counterpart in the workers.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from storage.audio.decode import Decoder
from storage.audio.slicing import num_slices
from storage.checksums import digest_file
from storage.errors import AudioError, ObjectMissingError
from storage.objects.client import RemoteConfig
from storage.recipe import FOREIGN, Recipe
from storage.source.files import RecordingFiles, file_name
from storage.source.npy_folder import hash_slices, list_slices, probe_slices, read_npy_source
from storage.source.probe import Probe, probe_file
from storage.source.table import Source, SourceConfig, read_source


class Intake(Protocol):
    """Interface of one kind of recording: how it is found and probed."""

    def read_source(self, config: SourceConfig) -> Source:
        """Lists a source; raises ConfigError where it is none."""

    def open(self, path: str) -> AbstractContextManager[Path]:
        """A recording on this machine; ObjectMissingError, StoreError where it is not available."""

    def probe(self, path: str) -> Probe:
        """A first look at one recording."""

    def content_hash(self, path: Path) -> str:
        """Hash of the content, in hex; raises OSError where it cannot be read."""

    def count_slices(self, path: str) -> int:
        """Number of slices it yields, whatever its header says; 0 where it cannot be used."""


class AudioIntake:
    """Recordings are audio files, here or in a bucket."""

    def __init__(self, recipe: Recipe, remote: RemoteConfig) -> None:
        self._recipe = recipe
        self._remote = remote
        self._files = RecordingFiles(remote)

    def read_source(self, config: SourceConfig) -> Source:
        return read_source(config, self._remote)

    def open(self, path: str) -> AbstractContextManager[Path]:
        return self._files.open(path)

    def probe(self, path: str) -> Probe:
        try:
            with self.open(path) as file:
                return probe_file(file)
        except ObjectMissingError:
            return Probe(problem=f"there is no such file: {file_name(path)}")

    def content_hash(self, path: Path) -> str:
        return digest_file(path)

    def count_slices(self, path: str) -> int:
        """Decodes it all."""
        try:
            with self.open(path) as file:
                blocks = Decoder(file, self._recipe.sample_rate_hz)
                return max(1, num_slices(sum(len(block) for block in blocks), self._recipe))
        except (AudioError, ObjectMissingError):
            return 0


class NpyIntake:
    """Recordings are folders of slices."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def read_source(self, config: SourceConfig) -> Source:
        return read_npy_source(config)

    def open(self, path: str) -> AbstractContextManager[Path]:
        return nullcontext(Path(path))

    def probe(self, path: str) -> Probe:
        return probe_slices(Path(path), self._recipe)

    def content_hash(self, path: Path) -> str:
        return hash_slices(path)

    def count_slices(self, path: str) -> int:
        try:
            return len(list_slices(Path(path)).files)
        except AudioError:
            return 0


def intake_of(recipe: Recipe, remote: RemoteConfig) -> Intake:
    """The intake of a recipe's recordings."""
    return NpyIntake(recipe) if recipe.origin == FOREIGN else AudioIntake(recipe, remote)
