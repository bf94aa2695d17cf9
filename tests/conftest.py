"""Fixtures that every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# One thread each: torch's idle threads would spin, and tests run beside one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("steady", deadline=None, derandomize=True)  # machines are noisy
settings.load_profile("steady")

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The folder of real recordings of a name; skips the test where it is absent."""

    def folder(name: str) -> Path:
        path = REAL_DATA / name
        if not path.is_dir():
            pytest.skip(f"real audio is not here: {path} is absent")
        return path

    return folder
