"""Ranks that a launcher has started, on one node or several: torchrun, or srun of SLURM.

    launch = find_launch()
    with joined(launch, "cpu", timeout_s=600):
        ...

Without a launcher the first process starts the others by itself (`trainer.devices`), and they meet
when Lightning's trainer begins. Ranks of a launcher meet here, before anything is written.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from storage.errors import ConfigError
from training.runtime.ranks import RankLostError

TORCHRUN, SRUN = "torchrun", "srun"
NAMELESS = "none"  # torchrun's own id of a job that was given none


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Place of this process among all that a launcher has started.

    `job` is the same when the launcher starts the job again. `environment` is Lightning's.
    """

    launcher: str
    job: str
    rank: int
    local_rank: int
    num_ranks: int
    ranks_per_node: int
    environment: ClusterEnvironment = field(compare=False)

    @property
    def num_nodes(self) -> int:
        """Number of nodes, each with the same number of ranks."""
        return self.num_ranks // self.ranks_per_node


def find_launch() -> Launch | None:
    """The launcher of this process; None where it was started as a program alone.

    Raises ConfigError where the ranks are not spread evenly over the nodes.
    """
    if TorchElasticEnvironment.detect():
        launch = _of_torchrun()
    elif SLURMEnvironment.detect():
        launch = _of_slurm()
    else:
        return None
    if launch.num_ranks % launch.ranks_per_node:
        raise ConfigError(
            f"{launch.launcher} has started {launch.num_ranks} ranks, {launch.ranks_per_node} of "
            "them here: give each node the same number (--nproc-per-node, --ntasks-per-node)"
        )
    return launch


def _of_torchrun() -> Launch:
    environment = TorchElasticEnvironment()
    run_id = os.environ["TORCHELASTIC_RUN_ID"]
    if run_id == NAMELESS:  # the agent outlives its ranks
        run_id = f"{socket.gethostname()}-{os.getppid()}"
    return Launch(
        launcher=TORCHRUN,
        job=_plain(f"{TORCHRUN}-{run_id}"),
        rank=environment.global_rank(),
        local_rank=environment.local_rank(),
        num_ranks=environment.world_size(),
        ranks_per_node=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        environment=environment,
    )


def _of_slurm() -> Launch:
    variables = os.environ
    num_ranks, nodes = (int(variables.get(f"SLURM_{name}", "1")) for name in ("NTASKS", "NNODES"))
    if num_ranks > 1 and "SLURM_NTASKS_PER_NODE" not in variables:
        raise ConfigError(
            f"SLURM runs {num_ranks} tasks, but not so many per node: give --ntasks-per-node="
            f"{max(1, num_ranks // nodes)} in place of --ntasks"
        )
    environment = SLURMEnvironment(auto_requeue=False)  # a job goes on by its own checkpoints
    step = variables.get("SLURM_STEP_ID", "0")
    return Launch(
        launcher=SRUN,
        job=_plain(f"slurm-{variables.get('SLURM_JOB_ID', 'none')}-{step}"),
        rank=environment.global_rank(),
        local_rank=environment.local_rank(),
        num_ranks=num_ranks,
        ranks_per_node=int(variables.get("SLURM_NTASKS_PER_NODE", "1")),
        environment=environment,
    )


def _plain(job: str) -> str:
    """A job's name as part of the name of a file."""
    return re.sub(r"[^\w.-]", "_", job)[:100]


@contextmanager
def joined(launch: Launch | None, accelerator: str, timeout_s: float) -> Iterator[None]:
    """Connects the ranks of a launcher in the block; what waits for one longer fails.

    Raises RankLostError where the ranks do not meet within `timeout_s`.
    """
    if launch is None or launch.num_ranks == 1:
        yield
        return
    if accelerator == "gpu":
        torch.cuda.set_device(launch.local_rank)  # else all ranks of a node send from the first
    os.environ["MASTER_ADDR"] = launch.environment.main_address
    os.environ["MASTER_PORT"] = str(launch.environment.main_port)
    try:
        distributed.init_process_group(
            "nccl" if accelerator == "gpu" else "gloo",
            rank=launch.rank,
            world_size=launch.num_ranks,
            timeout=timedelta(seconds=timeout_s),
        )
    except (distributed.DistError, RuntimeError) as error:
        raise RankLostError(
            f"rank {launch.rank} of {launch.num_ranks} did not meet the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within trainer.timeout_s="
            f"{timeout_s:g}: see the messages of the other ranks, and that this port is open "
            f"between the nodes ({str(error).splitlines()[0]})"
        ) from error
    yield
    distributed.destroy_process_group()  # after an error it might wait for what is lost
