"""Look through a store in the browser: filter, listen, compare, find alike, review labels.

    python -m tools.explore store=data/store
    python -m tools.explore store=data/store explore.experiment=exp_003 source.root=data
    python -m tools.explore store=data/store explore.experiment=exp_003 explore.compare=exp_004
    python -m tools.explore store=data/store explore.predictions=preds/new \\
        explore.reviews=reviews explore.port=0
    python -m tools.explore store=s3://bucket/store explore.map=map.parquet

Prints a link that holds a token; who has it can see the page, nobody else. It is answered to this
machine only, unless explore.host says otherwise. Verdicts of people are added to explore.reviews.
Spectrograms are those of the store; sound comes from source.*, as at the build. Ctrl-C ends it.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from storage.source.table import SourceConfig
from storage.store import open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.progress_bars import bar
from tools.exploring.config import ExploreConfig
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_entries, local_experiments
from training.inference.exploring.exploration import Exploration, ExplorationInputs
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    explore: ExploreConfig = field(default_factory=ExploreConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Opens the store and its results, prints the link, and serves until it is stopped."""
    from tools.exploring import app, server  # starlette and uvicorn take some time to import

    bound = server.listen(config.explore)
    with bound, open_store(config.store, config.remote) as store:
        exploration = Exploration.open(store, _inputs(config), progress=bar)
        if problem := exploration.desk.problem():
            print(f"no verdict can be saved: {problem}")
        port = bound.getsockname()[1]
        rules = server.rules_of(config.explore, port)
        address = server.link(config.explore, port, rules.token)
        application = app.create_app(exploration, rules)
        try:
            server.serve(bound, application, lambda: print(f"open {address}", flush=True))
        finally:
            exploration.close()


def _inputs(config: Sections) -> ExplorationInputs:
    explore = config.explore
    (model,) = local_entries([explore.embeddings], config.experiment, config.remote)
    similar = SimilarConfig(by=model, folder=explore.embeddings_folder)
    names = [name for name in (explore.experiment, explore.compare) if name]
    return ExplorationInputs(
        query=explore.query(),
        compare=explore.compare,
        embeddings=EmbeddingPlace(
            similar=similar,
            root=local_experiments(config.experiment, config.remote, names),
            source=config.source,
            remote=config.remote,
        ),
        map=Path(explore.map) if explore.map else None,
        reviews=Path(explore.reviews),
    )


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
