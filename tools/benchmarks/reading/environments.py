"""An environment of its own for each peer: no two of them have to agree on versions.

Without uv these take some GB each, since torch is in all of them.
"""

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.testbed.environments import python_with

DEFAULT_FOLDER = Path("~/.cache/melbank/peers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library, its version range, and what else it needs at the time of writing."""

    name: str
    package: str
    versions: str
    more: tuple[str, ...] = ()

    @property
    def requirements(self) -> list[str]:
        """Requirements: the library, numpy, and torch in the version of this environment."""
        torch = importlib.metadata.version("torch").partition("+")[0]
        return [f"{self.package}{self.versions}", f"torch=={torch}", "numpy>=1.26", *self.more]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="webdataset", package="webdataset", versions=">=1.0,<2"),
        Peer(name="mosaicml", package="mosaicml-streaming", versions=">=0.11,<1"),
        Peer(name="litdata", package="litdata", versions=">=0.2.50,<1"),
        Peer(name="huggingface", package="datasets", versions=">=4,<6"),
        Peer(name="lance", package="pylance", versions=">=0.38,<9"),
        Peer(name="hdf5", package="h5py", versions=">=3.13,<4"),
        Peer(name="zarr", package="zarr", versions=">=3.1,<3.2"),
    )
}


def python_of(peer: Peer, env_dir: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Raises StoreError where it cannot be.
    """
    root = Path(env_dir).expanduser() if env_dir else DEFAULT_FOLDER.expanduser()
    folder = root / f"{peer.name}-py{sys.version_info.major}{sys.version_info.minor}"
    return python_with(peer.requirements, folder)
