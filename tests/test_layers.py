"""The layers are this checkout's, not some installed package of the same name."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("layer", ["storage", "datasets", "training", "tools"])
def test_layer_resolves_to_this_checkout(layer: str) -> None:
    module = importlib.import_module(layer)
    assert module.__file__ is not None
    assert Path(module.__file__) == ROOT / layer / "__init__.py"
    assert module.__doc__
