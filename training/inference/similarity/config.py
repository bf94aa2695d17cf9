"""Config of similarity; imports no torch."""

from dataclasses import dataclass

from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, option
from training.inference.embeddings.config import TABLE_ENDING

NONE, RECORDING = "none", "recording"
PCA, UMAP = "pca", "umap"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarConfig:
    """The embedding, what to compare with, and how many to find."""

    by: str = option(
        "spectral",
        "spectral, or a model as in embed.model, such as exp_003/fold_0 or birdnet; or a file of "
        "tools.embed, .parquet",
    )
    row: int | None = option(None, "the slices nearest to the slice of this row")
    recording: str = option("", "the slices nearest to any slice of this recording, by its id")
    file: str = option("", "the slices nearest to any slice of this audio file")
    count: int = option(20, "number of slices to find")
    leave_out: str = option(
        RECORDING,
        "slices that do not count: none, recording: of the same one; or a column, such "
        "as author or fold: with the same value",
    )
    agreement: str = option(
        "",
        "column, such as fold: how often the nearest slice with another value has the same "
        "primary label",
    )
    agreement_of: str = option(
        "",
        "value of that column: only its slices are asked, as the fold that a model held out",
    )
    map: str = option(PCA, "of --map: pca, or umap (an extra)")
    seed: int = option(0, "decides a map by umap")
    folder: str = option("embeddings", "for the embeddings that are computed here")
    exact_rows: int = option(
        1_000_000, "slices up to which all are compared; an index of usearch (an extra) for more"
    )

    def __post_init__(self) -> None:
        check_at_least(self, "similar", 1, "count")
        check_at_least(self, "similar", 0, "exact_rows", "row")
        check_choice(self, "similar", "map", (PCA, UMAP))
        given = [
            name for name in ("row", "recording", "file") if getattr(self, name) not in ("", None)
        ]
        if len(given) > 1:
            raise ConfigError(
                f"similar.{given[0]} and similar.{given[1]} ask for different neighbours: give one"
            )
        if self.agreement_of and not self.agreement:
            raise ConfigError(
                f"similar.agreement_of={self.agreement_of} needs similar.agreement, the column of "
                "that value, such as fold"
            )
        if not self.by:
            raise ConfigError("similar.by names no embedding: give spectral, a model or a file")

    @property
    def is_table(self) -> bool:
        """True where `by` is a file of embeddings."""
        return self.by.endswith(TABLE_ENDING)

    @property
    def asks(self) -> bool:
        """True where neighbours are asked for."""
        return self.row is not None or bool(self.recording or self.file)
