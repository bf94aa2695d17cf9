"""Fixtures of the tests of shards."""

import pytest

from datasets.loading import quarantine
from storage.objects.retry import RetryPolicy
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "shards"


@pytest.fixture
def impatient(monkeypatch):
    """Reads again at once: damage stays, and the tests need not wait for that."""
    monkeypatch.setattr(quarantine, "POLICY", RetryPolicy(reread_after_s=(0.0,)))
