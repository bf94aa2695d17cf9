"""Marginal gain of each member of a blend: the scores of the blend without it.

    print(evaluate_members(Path("preds/new"), annotations, config, sections).text())

The raw results of a run have the probabilities of each member, so nothing is predicted again; the
rest of the blend goes through the same calibration and steps. A member that adds less than the
scores vary between seeds or recordings costs time for nothing, and one that orders the windows as
the others do cannot add much.

Shapes: B members, N windows, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from training.experiments.blend import describe_gains
from training.inference.config import OutputSections
from training.inference.evaluation.annotations import Annotations
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.evaluate import evaluate
from training.inference.post.blend import ONLY, WEIGHTS, BlendConfig
from training.inference.results import RUN, RawPredictions, Results
from training.inference.run_outputs import open_run
from training.model.agreement import rank_correlations
from training.model.metrics import Scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemberGains:
    """Scores of windows: of the blend, without each member, and of each alone."""

    whole: Scores
    without: dict[str, Scores]
    alone: dict[str, Scores]
    correlation_BB: np.ndarray

    def text(self) -> str:
        """Formats what each member adds, and how much it agrees with the others."""
        return describe_gains(self.whole, self.without, self.correlation_BB)


class _Kept(Results):
    """Raw results of some members alone."""

    def __init__(self, out: Path, places: Sequence[int]) -> None:
        super().__init__(out)
        self._places = list(places)

    def branches(self) -> tuple[str, ...]:
        """Names of the members that are kept."""
        names = super().branches()
        return tuple(names[place] for place in self._places)

    def iterate(self) -> Iterator[RawPredictions]:
        """Yields the recordings with the probabilities of those members."""
        for raw in Results(self.root).iterate():
            yield replace(raw, probabilities=raw.probabilities[self._places])


def evaluate_members(
    folder: Path,
    annotations: Annotations | None,
    config: EvaluateConfig,
    sections: OutputSections,
    taxonomy: str = "",
) -> MemberGains:
    """Evaluates the blend of a run, the rest of it without each member, and each member alone.

    Raises ConfigError where the folder has no raw results, or those of one member.
    """
    if not (folder / RUN).is_file():
        raise ConfigError(f"evaluate.members: {folder} has no {RUN}: give a folder of predict.out")
    names = Results(folder).branches()
    if len(names) < 2:
        raise ConfigError(
            f"evaluate.members: {folder} is of one model, {names[0]}: predict with two or more "
            "entries of predict.from"
        )
    places = range(len(names))
    scores_only = replace(config, bootstrap=0, thresholds=[], class_thresholds="")

    def score(kept: Sequence[int]) -> Scores:
        part = replace(sections, blend=kept_blend(sections.blend, kept))
        windows = _windows(_Kept(folder, kept), part, taxonomy)
        return evaluate(windows, annotations, scores_only).levels[0].scores

    raw = np.concatenate([one.probabilities for one in Results(folder).iterate()], axis=1)
    return MemberGains(
        whole=score(places),
        without={
            names[place]: score([other for other in places if other != place]) for place in places
        },
        alone={names[place]: score([place]) for place in places},
        correlation_BB=rank_correlations(raw),
    )


def kept_blend(blend: BlendConfig, places: Sequence[int]) -> BlendConfig:
    """The blend of some members; where their weights are all 0, they count alike."""

    def kept(weights: Sequence[float]) -> list[float]:
        some = [weights[place] for place in places if place < len(weights)]
        return some if any(some) else []

    class_weights = [
        {ONLY: entry[ONLY], WEIGHTS: kept(entry[WEIGHTS])} for entry in blend.class_weights
    ]
    return replace(
        blend,
        weights=kept(blend.weights),
        class_weights=[entry for entry in class_weights if entry[WEIGHTS]],
    )


def _windows(results: Results, sections: OutputSections, taxonomy: str) -> pl.DataFrame:
    """The windows of a run as a table: recording_id, start_s, end_s, p_<label>."""
    run = open_run(results, sections, taxonomy)
    parts = list(run.windows)
    times = {
        "recording_id": [one.recording.recording_id for one in parts for _ in one.start_s],
        "start_s": np.concatenate([one.start_s for one in parts]),
        "end_s": np.concatenate([one.end_s for one in parts]),
    }
    columns = [f"p_{label}" for label in run.classes.labels]
    scores = np.concatenate([one.probabilities for one in parts]).astype(np.float32)
    return pl.DataFrame(times).hstack(pl.DataFrame(scores, columns, orient="row"))
