"""Values of `auto` on this machine, each with the reason that is printed with it."""

import importlib.util
import netrc
import os
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from storage.errors import ConfigError
from storage.processes import num_cores

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
COMPILES = {"auto": "", "true": "on", "false": "off"}  # yaml reads on and off as booleans
LOGGERS = ("auto", "csv", "wandb")
ACCELERATORS = ("auto", "cpu", "gpu")
DDP_UNUSED = "ddp_find_unused_parameters_true"
STRATEGIES = ("auto", "ddp", DDP_UNUSED)
BF16_ABILITIES = ("avx512_bf16", "amx_bf16")  # elsewhere bf16 is emulated, and slower
# Narrower images are one or two cells wide where a backbone halves them for the last time. There,
# oneDNN's convolutions in bf16 take in memory that is not theirs (torch 2.15): gradients are NaN.
MIN_BF16_FRAMES = 64


class Choice(NamedTuple):
    """A value and why it was taken."""

    value: str
    reason: str


def choose_accelerator(asked: str, section: str = "trainer") -> Choice:
    """`gpu` or `cpu`; raises ConfigError, on a key of `section`, where there is no GPU."""
    import torch  # here and below: configs take their choices from above, without it

    has_gpu = torch.cuda.is_available()
    if asked == "gpu" and not has_gpu:
        raise ConfigError(
            f"{section}.accelerator=gpu: torch sees no CUDA device here; use cpu or auto"
        )
    if asked != "auto":
        return _asked(asked)
    if has_gpu:
        return Choice("gpu", torch.cuda.get_device_name())
    return Choice("cpu", "torch sees no CUDA device")


def choose_strategy(asked: str, accelerator: str, devices: int, num_nodes: int = 1) -> Choice:
    """Chooses Lightning's strategy for several ranks; ConfigError where GPUs are too few.

    `devices` are those of each node.
    """
    import torch

    if accelerator == "gpu" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices={devices}: torch sees {torch.cuda.device_count()} GPUs here"
        )
    if asked != "auto":
        return _asked(asked)
    if num_nodes > 1:
        return Choice("ddp", f"{devices * num_nodes} ranks on {num_nodes} nodes")
    if devices > 1:
        return Choice("ddp", f"{devices} ranks")
    return Choice("auto", "one process")


def choose_precision(
    asked: str, accelerator: str, num_frames: int, cpu: Mapping[str, object] | None = None
) -> Choice:
    """One of Lightning's precisions: bf16 where the hardware computes in it, and rightly.

    `num_frames`: of the narrowest image that a backbone sees. `cpu`: the processor's abilities as
    torch names them; None: those of this one.
    """
    import torch

    if asked != "auto":
        return _asked(asked)
    if accelerator == "cpu":
        if cpu is None:
            cpu = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
        if any(cpu.get(name) for name in BF16_ABILITIES):
            if num_frames < MIN_BF16_FRAMES:
                return Choice("32-true", f"CPUs fail in bf16 on images of {num_frames} frames")
            return Choice("bf16-mixed", "the CPU computes in bf16")
        return Choice("32-true", "a CPU without bf16")
    if torch.cuda.get_device_capability() >= (8, 0):
        return Choice("bf16-mixed", "the GPU computes in bf16")
    return Choice("16-mixed", "the GPU is older than bf16")


def choose_compile(asked: str, accelerator: str) -> Choice:
    """`on` or `off`: compiling pays on a GPU, where it needs triton and a C compiler."""
    if asked.lower() != "auto":
        return _asked(COMPILES[asked.lower()])
    if accelerator == "cpu":
        return Choice("off", "CPU: compiling costs more than it saves")
    if importlib.util.find_spec("triton") is None:
        return Choice("off", "triton is not installed")
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return Choice("off", "there is no C compiler")
    return Choice("on", "GPU with triton and a C compiler")


def choose_logger(asked: str) -> Choice:
    """`wandb` next to the csv file that is always written, or that file alone."""
    installed = importlib.util.find_spec("wandb") is not None
    if asked == "wandb" and not installed:
        raise ConfigError(
            "trainer.logger=wandb: the package wandb is not installed; `uv sync --extra wandb`, "
            "`pip install wandb`, or trainer.logger=csv"
        )
    if asked != "auto" and asked != "wandb":
        return _asked(asked)
    if installed:
        how = "as asked" if asked == "wandb" else "wandb is installed"
        where = "with your key" if has_wandb_key() else "offline, for there is no key"
        return Choice("wandb", f"{how}; {where}")
    return Choice("csv", "wandb is not installed")


def has_wandb_key() -> bool:
    """True where W&B finds an API key, in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def choose_threads(asked: int, *, num_ranks: int = 1, num_folds: int = 1) -> Choice:
    """Threads of torch: one per core that the process may use, shared by the ranks.

    What a process has, asked for or not, folds that it trains at once share.
    """
    cores = "cores of this process, by affinity and container quota"
    if asked:
        number, reason = asked, "as asked"
    elif "SLURM_CPUS_PER_TASK" in os.environ:  # srun has given each rank its own
        number, reason = num_cores(), f"{cores}: those of a task of SLURM"
    elif num_ranks > 1:
        number, reason = num_cores() // num_ranks, f"{cores}, divided among {num_ranks} ranks"
    else:
        number, reason = num_cores(), cores
    if num_folds > 1:
        number, reason = number // num_folds, f"{reason}, divided among {num_folds} folds"
    return Choice(str(max(1, number)), reason)


def _asked(value: str) -> Choice:
    return Choice(value, "as asked")
