"""Space in which slices are compared: unit vectors, so that a product is the cosine.

    space = Space.of(table)
    unit_NE = space.units(table.embeddings_NE)

Embeddings of models are compared as they are. The numbers of the spectral embedding have different
units, so each is standardised by its mean and deviation over the collection, and divided by the
root of the size of its group.

Shapes: N slices, E numbers of an embedding.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.inference.embeddings.spectral import SPECTRAL, group_sizes
from training.inference.embeddings.table import EmbeddingTable

LEAST_SPREAD = 1e-6
LEAST_NORM = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """Standardisation of a collection, float32 [E] each: (x - mean) * scale."""

    mean_E: np.ndarray
    scale_E: np.ndarray

    @classmethod
    def of(cls, table: EmbeddingTable) -> Self:
        """The space of a table of embeddings."""
        embeddings_NE = table.embeddings_NE
        size = embeddings_NE.shape[1]
        if table.about.model.name != SPECTRAL:
            return cls(mean_E=np.zeros(size, np.float32), scale_E=np.ones(size, np.float32))
        mean_E = embeddings_NE.mean(axis=0, dtype=np.float64)
        square_E = np.einsum("ne,ne->e", embeddings_NE, embeddings_NE, dtype=np.float64)
        spread_E = np.sqrt(np.maximum(square_E / len(embeddings_NE) - mean_E**2, 0))
        sizes = group_sizes(table.about.recipe.slice_shape)
        weight_E = np.repeat(1 / np.sqrt(sizes), sizes)
        return cls(
            mean_E=mean_E.astype(np.float32),
            scale_E=(weight_E / np.maximum(spread_E, LEAST_SPREAD)).astype(np.float32),
        )

    def units(self, embeddings_NE: np.ndarray) -> np.ndarray:
        """Unit vectors, float32 [N, E]; a vector of length zero stays zero."""
        return unit_vectors((embeddings_NE - self.mean_E) * self.scale_E)


def unit_vectors(vectors_NE: np.ndarray) -> np.ndarray:
    """Vectors divided by their lengths, float32 [N, E]; a vector of length zero stays zero."""
    norms_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.asarray(vectors_NE / np.maximum(norms_N1, LEAST_NORM), np.float32)
