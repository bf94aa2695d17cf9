"""Measures human voice in the slices of a store, in parts that a stopped run goes on from.

measure_voice(store, recordings, SileroVoice(5.0), config, audio=audio_of(source, "mean"))
"""

from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from datasets.sampling.voice import SHARE
from storage.output_files import output_file
from storage.progress import Progress, Step, silent
from storage.store import Store
from training.inference.embeddings.config import EmbedConfig
from training.inference.embeddings.embed import AudioFiles, embed_store
from training.inference.embeddings.embedders import Embedder
from training.inference.embeddings.table import KEY, read_table
from training.inference.voice.config import VoiceConfig


def measure_voice(
    store: Store,
    recordings: pl.DataFrame,
    detector: Embedder,
    config: VoiceConfig,
    *,
    audio: AudioFiles,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Writes `config.out` and returns it: row, recording_id and voice_share of all slices.

    The file's metadata names the model, its licence and the store. Raises ConfigError where
    recordings have no file, or the parts of a stopped run belong to another call.
    """
    target = Path(config.out)
    unfinished = target.with_name(f".{target.name}.shares.parquet")
    embedding = EmbedConfig(
        model="voice", out=str(unfinished), batch_size=config.batch_size, threads=config.threads
    )

    def own_progress(_: str, total: int, unit: str) -> AbstractContextManager[Step]:
        return progress("voice", total, unit)

    about = embed_store(store, recordings, detector, embedding, audio=audio, progress=own_progress)
    table = read_table(unfinished)
    shares = pl.Series(SHARE, table.embeddings_NE[:, 0], dtype=pl.Float32)
    frame = table.frame.with_columns(shares)
    with output_file(target) as file:
        frame.write_parquet(file, metadata={KEY: about.to_json()})
    unfinished.unlink()
    return frame
