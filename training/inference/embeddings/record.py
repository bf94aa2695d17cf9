"""Record of the model that made embeddings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Model of embeddings, for the file's metadata. `takes`: `slices`, or waveforms of a rate."""

    name: str
    sha256: str
    licence: str
    takes: str
    output: str
