"""Map of a collection: all slices in two dimensions, by PCA, or by UMAP as an extra.

UMAP: McInnes, Healy and Melville, 2018; with the cosine, and a seed that decides it.
"""

import numpy as np

from storage.errors import ConfigError
from training.inference.similarity.config import UMAP

LEAST_SLICES = 3
UMAP_NEIGHBOURS = 15


def map_points(unit_NE: np.ndarray, method: str, *, seed: int) -> np.ndarray:
    """Coordinates of N slices, float32 [N, 2]; ConfigError where there are too few."""
    if len(unit_NE) < LEAST_SLICES:
        raise ConfigError(f"a map needs at least {LEAST_SLICES} slices, not {len(unit_NE)}")
    points = _umap(unit_NE, seed) if method == UMAP else _pca(unit_NE)
    return np.asarray(points, np.float32)


def _pca(unit_NE: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA  # takes a second to import

    solver = "covariance_eigh" if len(unit_NE) >= unit_NE.shape[1] else "full"
    return np.asarray(PCA(n_components=2, svd_solver=solver).fit_transform(unit_NE))


def _umap(unit_NE: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP as UmapTransform
    except ImportError as error:
        raise ConfigError(
            "similar.map=umap needs the package umap-learn: uv sync --extra similar; or take "
            "similar.map=pca"
        ) from error
    neighbours = min(UMAP_NEIGHBOURS, len(unit_NE) - 1)
    transform = UmapTransform(metric="cosine", random_state=seed, n_neighbors=neighbours, n_jobs=1)
    return np.asarray(transform.fit_transform(unit_NE))
