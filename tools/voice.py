"""Measure human voice in the slices of a store, for training without it.

    python -m tools.voice source.root=data store=data/store voice.out=voice.parquet
    python -m tools.train store=data/store sampling.voice_file=voice.parquet
    python -m tools.train store=data/store sampling.voice_file=voice.parquet \\
        sampling.voice=down_weight sampling.voice_threshold=0.3

One line per slice: row, recording_id, voice_share, the share of its 32-ms frames in which Silero
VAD hears a human voice. It reads the recordings again, by the source.* keys of the build, and needs
the extra `voice` (MIT). Stopped at any moment, the same call goes on where it was. Birds that chirp
like speech are heard as voice at times: look at the sums by class that it prints.
"""

import sys
from dataclasses import dataclass, field

import polars as pl

from datasets.sampling.voice import SHARE
from datasets.slice_source import select_recordings
from storage.source.table import SourceConfig, read_source
from storage.store import open_store
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import LimitSection, StoreSection
from tools.cli.output_files import check_output
from tools.cli.progress_bars import bar
from tools.cli.terminal import terminal_width
from training.inference.voice.config import VoiceConfig

SHOWN_ABOVE = 0.5
SHOWN_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Sections(LimitSection, StoreSection):
    """Config sections of this command."""

    voice: VoiceConfig = field(default_factory=VoiceConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Measures, and prints the classes with most slices that are voice for the greater part."""
    check_output("voice.out=", config.voice.out)
    with importing("voice"):
        from training.inference.embeddings.embed import audio_of
        from training.inference.voice.measure import measure_voice
        from training.inference.voice.silero import SileroVoice
        from training.runtime.auto import choose_threads
    threads = int(choose_threads(config.voice.threads).value)
    with open_store(config.store, config.remote) as store:
        recordings = select_recordings(store.recordings(), limit=config.limit)
        detector = SileroVoice(store.recipe.slice_s, threads)
        source = read_source(config.source, config.remote)
        audio = audio_of(source, config.source.channel, config.remote)
        frame = measure_voice(store, recordings, detector, config.voice, audio=audio, progress=bar)
    voiced = (frame[SHARE] > SHOWN_ABOVE).sum()
    print(
        f"{config.voice.out}: {len(frame):,} slices of {len(recordings):,} recordings, {voiced:,} "
        f"with voice in more than {SHOWN_ABOVE:.0%} of their frames"
    )
    if voiced:
        print(_by_class(frame, recordings))


def _by_class(frame: pl.DataFrame, recordings: pl.DataFrame) -> str:
    """The classes with the largest share of slices with voice, as a table."""
    labels = recordings.select("recording_id", "primary_label")
    table = (
        frame.join(labels, on="recording_id")
        .group_by("primary_label")
        .agg(slices=pl.len(), with_voice=(pl.col(SHARE) > SHOWN_ABOVE).sum())
        .filter(pl.col("with_voice") > 0)
        .with_columns(share=pl.col("with_voice") / pl.col("slices"))
        .sort("share", "primary_label", descending=[True, False])
        .head(SHOWN_CLASSES)
    )
    with pl.Config(tbl_rows=-1, tbl_width_chars=terminal_width()) as look:
        look.set_tbl_hide_column_data_types().set_tbl_hide_dataframe_shape()
        return str(table)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
