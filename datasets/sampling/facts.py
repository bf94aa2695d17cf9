"""Facts that draws may depend on, beyond recordings and slice index: targets and voice.

    facts = find_facts(config, recordings, draws, targets, names, eligible=None)
    EpochPlanner(recordings, config, seed=7, facts=facts)

Only what the config needs is looked up.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from datasets.sampling.candidates import Candidates
from datasets.sampling.config import DROP, SamplingConfig
from datasets.sampling.top_targets import TopTargets, find_top_targets
from datasets.sampling.voice import VoiceShares, read_voice
from datasets.slice_source import SOURCE
from datasets.targets import Targets
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceFacts:
    """Facts of slices. `draws` names the rule of each source that does not draw equally.

    `reviews`: digest of the verdicts that decide targets; empty without any.
    """

    draws: Mapping[str, str] = field(default_factory=dict)
    tops: TopTargets | None = None
    voice: VoiceShares | None = None
    reviews: str = ""

    def without_voice(
        self, config: SamplingConfig, recordings: pl.DataFrame, eligible: np.ndarray | None
    ) -> np.ndarray | None:
        """Leaves slices with human voice out of the eligible rows, where the config drops them."""
        if self.voice is None or config.voice != DROP:
            return eligible
        rows = Candidates.all_of(recordings).sorted_rows()[0] if eligible is None else eligible
        heard = self.voice.louder_than(config.voice_threshold)
        left = np.setdiff1d(rows, heard, assume_unique=True)
        if not len(left):
            raise ConfigError(
                f"sampling.voice=drop leaves none of {len(rows):,} slices: all have more voice "
                f"than sampling.voice_threshold={config.voice_threshold:g}"
            )
        return left

    def digests(self) -> dict[str, str]:
        """Returns what a state says of the facts, by name."""
        found = {f"draw of {name}": rule for name, rule in self.draws.items()}
        if self.tops is not None:
            found["targets of pools"] = digest_of(*self.tops.arrays())
        if self.voice is not None:
            found["voice"] = digest_of(self.voice.rows, self.voice.share)
        if self.reviews:
            found["reviews"] = self.reviews
        return found


def digest_of(*arrays: np.ndarray) -> str:
    """Returns 16 hex digits: blake2b of arrays."""
    hasher = hashlib.blake2b(digest_size=8)
    for array in arrays:
        little = array.dtype.newbyteorder("<")
        hasher.update(np.ascontiguousarray(array, little).data)
    return hasher.hexdigest()


def find_facts(
    config: SamplingConfig,
    recordings: pl.DataFrame,
    draws: Mapping[str, str],
    targets: Targets,
    names: Sequence[str],
    *,
    recording_no: np.ndarray,
    eligible: np.ndarray | None = None,
) -> SliceFacts:
    """Finds what a planner of these recordings needs.

    `recording_no` int64 are their numbers in `targets`, `names` the classes of those. Raises
    ConfigError where the voice file cannot be used.
    """
    voice = read_voice(config.voice_file, recordings) if config.voice_file else None
    needing = {*draws, config.substitute.source} - {""}
    tops = None
    if needing and SOURCE in recordings.columns:
        inside = recordings[SOURCE].is_in(list(needing)).to_numpy()
        tops = find_top_targets(
            targets, names, recordings.filter(inside), recording_no[inside], eligible=eligible
        )
    return SliceFacts(draws=draws, tops=tops, voice=voice)
