"""A server that is killed again and again: a new process for each, with all imports done before."""

import os
from pathlib import Path

from storage.store import open_store
from tests.tools.exploring.conftest import TOKEN, inputs_of
from tools.exploring.app import create_app
from tools.exploring.config import ExploreConfig
from tools.exploring.server import listen, rules_of, serve
from training.inference.exploring.exploration import Exploration


def serve_and_fork(folder: Path, reviews: Path, rounds: int) -> None:
    """Serves in a child until it is killed, `rounds` times; each prints its pid and port.

    No thread runs in the parent, which only forks and waits.
    """
    for _ in range(rounds):
        pid = os.fork()
        if not pid:
            _serve(folder, reviews)
            os._exit(1)
        os.waitpid(pid, 0)


def _serve(folder: Path, reviews: Path) -> None:
    config = ExploreConfig(port=0, token=TOKEN)
    bound = listen(config)
    port = bound.getsockname()[1]
    with open_store(str(folder / "store")) as store:
        exploration = Exploration.open(store, inputs_of(folder, reviews))
        app = create_app(exploration, rules_of(config, port), folder / "page")
        serve(bound, app, lambda: print(os.getpid(), port, flush=True))
