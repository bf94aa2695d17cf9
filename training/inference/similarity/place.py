"""Place of the embeddings of a store: which they are, their model, the recordings. No torch."""

from dataclasses import dataclass, field
from pathlib import Path

from storage.objects.client import DEFAULT, RemoteConfig
from storage.source.table import SourceConfig
from training.inference.embeddings.config import EmbedConfig
from training.inference.similarity.config import SimilarConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPlace:
    """The embedding of a config, and where its model and the recordings are."""

    similar: SimilarConfig = field(default_factory=SimilarConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    root: Path = Path()  # of experiments
    source: SourceConfig = field(default_factory=SourceConfig)
    remote: RemoteConfig = DEFAULT
