"""Pretrained weights without a network: from the cache, or refused within seconds."""

import socket
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from storage.errors import ConfigError
from training.model import hub
from training.model.models import ModelConfig, build_classifier

TINY = "test_resnet"


def build():
    config = ModelConfig(backbone=TINY, pretrained=True)
    return build_classifier(config, num_classes=3, slice_shape=(32, 48))


def test_without_a_network_it_is_refused_soon_with_both_ways_out(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    begin_s = time.monotonic()
    with pytest.raises(ConfigError, match=r"weights_file=FILE, or .* model\.pretrained=false"):
        build()
    assert time.monotonic() - begin_s < 15


def test_a_hub_that_never_answers_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin_s = time.monotonic()
        assert not hub.answers(f"http://127.0.0.1:{silent.getsockname()[1]}", limit_s=0.5)
        assert time.monotonic() - begin_s < 5


def test_cached_weights_need_no_network(tmp_path: Path, monkeypatch):
    torch.manual_seed(0)
    weights = timm.create_model(TINY).state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda _, name: str(tmp_path / name))
    loaded = build().views[0].backbone.state_dict()
    same = [name for name, value in weights.items() if name in loaded and value.ndim == 1]
    assert same
    assert all(torch.equal(loaded[name], weights[name]) for name in same)
