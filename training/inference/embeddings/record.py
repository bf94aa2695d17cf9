"""Record of the model that made embeddings."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Model of embeddings, for the file's metadata. `takes`: `slices`, or waveforms of a rate."""

    name: str
    sha256: str
    licence: str
    takes: str
    output: str

    def is_of_same_model(self, other: "ModelRecord") -> bool:
        """True where two models give the same numbers, whatever the names of their files."""
        return replace(self, name="") == replace(other, name="")
