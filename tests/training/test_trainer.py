"""training.trainer and training.runtime.auto: steps, and what `auto` comes to."""

import importlib.util
import logging
import os
import subprocess
import sys
import warnings

import pytest
import torch

from storage.errors import ConfigError
from storage.processes import num_cores
from tests.paths import ROOT
from training.config import TrainerConfig, accumulation
from training.runtime.auto import (
    choose_accelerator,
    choose_compile,
    choose_logger,
    choose_precision,
    choose_strategy,
    choose_threads,
    has_wandb_key,
)
from training.runtime.threads import torch_threads
from training.trainer import (
    choose_machine,
    quiet_lightning,
)

HAS_WANDB = importlib.util.find_spec("wandb") is not None


@pytest.mark.parametrize(
    ("effective", "batch", "ranks", "steps"), [(16, 4, 1, 4), (16, 16, 1, 1), (64, 4, 2, 8)]
)
def test_accumulation_fills_the_effective_batch(effective, batch, ranks, steps):
    assert accumulation(effective, batch, ranks) == steps


def test_a_batch_size_that_does_not_divide_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"16 is no multiple of .*=6 x 1 .*1, 2, 4, 8, 16$"):
        accumulation(16, 6)
    with pytest.raises(ConfigError, match=r"batch_size=16 x 2 ranks.*1, 2, 4, 8$"):
        accumulation(16, 16, 2)


def test_on_a_cpu_auto_is_bf16_where_it_computes_in_that_and_nothing_compiled():
    plain = choose_precision("auto", "cpu", 64, {"avx512_f": True, "avx512_bf16": False})
    assert plain == ("32-true", "a CPU without bf16")
    for name in ("avx512_bf16", "amx_bf16"):
        assert choose_precision("auto", "cpu", 64, {name: True}).value == "bf16-mixed"
        narrow = choose_precision("auto", "cpu", 63, {name: True})
        assert narrow == ("32-true", "CPUs fail in bf16 on images of 63 frames")
    compiled = choose_compile("auto", "cpu")
    assert compiled.value == "off"
    assert "CPU" in compiled.reason


def test_what_is_asked_for_is_taken():
    assert choose_precision("bf16-mixed", "cpu", 1).value == "bf16-mixed"
    assert choose_compile("true", "cpu").value == "on"
    assert choose_compile("False", "gpu").value == "off"  # as YAML's `off` arrives
    assert choose_accelerator("cpu").value == "cpu"
    assert choose_logger("csv").value == "csv"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    assert choose_accelerator("auto").value == "cpu"
    with pytest.raises(ConfigError, match="torch sees no CUDA device"):
        choose_accelerator("gpu")


@pytest.mark.skipif(HAS_WANDB, reason="wandb is installed")
def test_without_wandb_auto_is_a_csv_file_and_asking_for_it_is_refused():
    assert choose_logger("auto").value == "csv"
    with pytest.raises(ConfigError, match="wandb is not installed"):
        choose_logger("wandb")


def test_wandb_is_offline_without_a_key_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # all is installed
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    without = choose_logger("auto")
    assert (without.value, has_wandb_key()) == ("wandb", False)
    assert without.reason == "wandb is installed; offline, for there is no key"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password none\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_wandb_key()
    assert choose_logger("wandb").reason == "as asked; with your key"
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "none")
    assert has_wandb_key()


def test_all_choices_are_told():
    lines = choose_machine(TrainerConfig(accelerator="cpu"), 313).lines()
    names = ["accelerator", "strategy", "precision", "compile", "logger", "threads"]
    assert [line.split(":")[0] for line in lines] == names


def test_ranks_divide_the_threads_among_themselves():
    usual = int(choose_threads(0).value)
    shared = choose_threads(0, num_ranks=2)
    assert int(shared.value) == max(1, usual // 2)
    assert "divided among 2 ranks" in shared.reason
    assert choose_threads(3).value == "3"


def test_folds_at_once_divide_what_their_process_has(monkeypatch):
    assert choose_threads(6, num_folds=3) == ("2", "as asked, divided among 3 folds")
    assert choose_threads(1, num_folds=2).value == "1"
    assert choose_threads(0, num_folds=2).value == str(max(1, num_cores() // 2))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert choose_threads(0, num_folds=2).value == str(max(1, num_cores() // 2))


def test_a_task_of_slurm_has_its_cores_alone(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    found = choose_threads(0, num_ranks=4)
    assert found.value == str(num_cores())
    assert "of a task of SLURM" in found.reason


def test_several_devices_work_together_by_ddp():
    assert choose_strategy("auto", "cpu", 1).value == "auto"
    assert choose_strategy("auto", "cpu", 2).value == "ddp"
    asked = choose_strategy("ddp_find_unused_parameters_true", "cpu", 2)
    assert (asked.value, asked.reason) == ("ddp_find_unused_parameters_true", "as asked")
    too_many = torch.cuda.device_count() + 1
    with pytest.raises(ConfigError, match=f"devices={too_many}: torch sees"):
        choose_strategy("auto", "gpu", too_many)


def test_torch_has_its_threads_back_afterwards():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_waiting_threads_do_not_spin_since_torch_is_loaded_only_after_that():
    before = "import os, sys, datasets.shards.shard_set, storage.store, tools.cli.command"
    after = "import training; print(os.environ['OMP_WAIT_POLICY'])"
    code = f"{before}; print('torch' in sys.modules); {after}"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.check_output(
        [sys.executable, "-c", code], text=True, cwd=ROOT, env=environment
    )
    assert done.split() == ["False", "PASSIVE"]


def test_quiet_lightning_silences_information_and_known_noise_only():
    log = logging.getLogger("pytorch_lightning")
    before = log.level
    with quiet_lightning():
        assert not log.isEnabledFor(logging.INFO)
        assert log.isEnabledFor(logging.WARNING)
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, ...", FutureWarning, 2)
        with pytest.warns(UserWarning, match="something new"):
            warnings.warn("something new", UserWarning, 2)
    assert log.level == before
