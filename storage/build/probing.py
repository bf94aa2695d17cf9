"""Probes a source together with builders of other shares: each file is read by one of them.

Files are probed in chunks, whose results are written to `probes/` until the store is closed. Each
builder begins with the chunks of its share, and then probes those that nobody has.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import blake2b

import polars as pl

from storage.errors import DamageError, ObjectExistsError, ObjectMissingError
from storage.format.tables import encode_table
from storage.objects.protocol import Objects
from storage.progress import Progress, Step
from storage.share import Share
from storage.source.probe import SCHEMA, Look, probe_recordings
from storage.source.subset import limited
from storage.source.table import Source
from storage.untrusted import TableRule, decode_parquet

PROBES = "probes"
MAX_CHUNKS = 1024
MIN_CHUNK_FILES = 8


def probe_together(
    objects: Objects,
    source: Source,
    look: Look,
    *,
    share: Share,
    limit: int | None,
    progress: Progress,
) -> pl.DataFrame:
    """The recordings to build, as `probe_wanted` has them, with what others have found out.

    What builders that are late, or never come, have not probed is probed by the others.
    """
    wanted = source.recordings[limited(source.recordings, limit)]
    size = max(MIN_CHUNK_FILES, -(-len(wanted) // MAX_CHUNKS))
    chunks = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    names = [f"{PROBES}/{_digest(wanted)}-{number:05d}.parquet" for number in range(len(chunks))]
    found: dict[int, pl.DataFrame] = {}
    with progress("looking at files", len(wanted), "file") as step:
        for number in share.first(range(len(chunks))):
            chunk = chunks[number]
            probe = partial(_probe, chunk, look, source, step)
            found[number] = _read_or_probe(objects, names[number], len(chunk), step, probe)
    probes = [found[number] for number in range(len(chunks))]
    return wanted.with_columns(pl.concat([pl.DataFrame(schema=SCHEMA), *probes]))


def _probe(chunk: pl.DataFrame, look: Look, source: Source, step: Step) -> pl.DataFrame:
    probed = probe_recordings(chunk, look, lambda: step(1), source.nearest)
    return probed.select(*SCHEMA)


def _read_or_probe(
    objects: Objects, name: str, num_files: int, step: Step, probe: Callable[[], pl.DataFrame]
) -> pl.DataFrame:
    """Probes of a chunk: those that are written down, whose files may have changed, or new ones."""
    if not objects.exists(name):
        probed = probe()
        with suppress(ObjectExistsError):
            objects.put_new(name, encode_table(probed))
            return probed
    else:
        step(num_files)
    where = objects.describe(name)
    try:
        data = objects.get(name)
    except ObjectMissingError:  # the store was closed meanwhile
        return probe()
    rule = TableRule(schema=SCHEMA)
    frame = decode_parquet(data, where, rule, "delete it and build again", [*SCHEMA])
    if len(frame) != num_files:
        raise DamageError(f"{where} has {len(frame)} lines, not {num_files}: delete it")
    return frame


def _digest(wanted: pl.DataFrame) -> str:
    """Hash of the list of recordings, 16 hex digits: lists that differ share no probes."""
    text = wanted.select("recording_id", "filename", "reason").write_ndjson()
    return blake2b(text.encode(), digest_size=8).hexdigest()
