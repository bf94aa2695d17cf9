"""Forged and broken files of stores and shard sets, seeded: what strangers and mishaps bring.

    sets = make_sets(tmp_path)
    told = forge(folder, rng, outside)  # one change of one file of a copy of them

A change is one of the schema (a column, a type, a number, a name), with all checksums made right
again, or one of the bytes, or of what is in the place of the file: a link, a pipe, a folder.
"""

import contextlib
import copy
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.shards.format import header_check
from datasets.shards.plan import Wanted
from datasets.shards.writer import ShardConfig, _Run, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.rounds import open_build
from storage.checksums import canonical_json, crc32c_bytes, digest, digest_json
from storage.format.tables import encode_table
from storage.format.zarr_shards import INDEX_BYTES
from storage.maintenance.copy import STORE
from storage.objects.open import open_objects
from storage.objects.sync import Sync, SyncConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import write_source

RECIPE = Recipe(
    sample_rate_hz=4000, n_fft=256, hop=128, n_mels=8, fmax_hz=2000, slice_s=1.0, slice_step_s=0.5
)
SHARDS = ShardConfig(shard_size_bytes=12_000, workers=1)
ONE = BuildConfig(workers=1)
KINDS = ("store", "shards", "building", "writing", "copying")
_DTYPES = (
    pl.String,
    pl.Float64,
    pl.Int64,
    pl.UInt8,
    pl.Boolean,
    pl.Binary,
    pl.List(pl.Int64),
    pl.Null,
    pl.Datetime,
)


def make_sets(folder: Path) -> Path:
    """Writes one set of each kind: complete ones, a build, a writing and a copy that were killed.

    Returns the folder that they are in, which has the `source` too.
    """
    source = write_source(folder / "source", [2.2, 1.2, 3.1, 1.7], np.random.default_rng(3))
    config = SourceConfig(root=str(source))
    build_store(config, RECIPE, str(folder / "store"), ONE)
    with open_store(str(folder / "store")) as store:
        write_shards(store, str(folder / "shards"), SHARDS)
        target = open_objects(str(folder / "writing"))
        wanted = Wanted.of(store.recordings(), store.slice_index(), store.url)
        run = _Run(source=store, objects=target, config=SHARDS, wanted=wanted, progress=silent)
        _, plan = run.begin()
        run.write(plan, [*plan.shards])
    build = open_build(config, RECIPE, str(folder / "building"), ONE)
    place = build.next_place()
    build.write_plan(build.pending(), place)
    _begin_copy(folder)
    return folder


def silent(*_: Any) -> Any:
    """Shows no progress."""
    return contextlib.nullcontext(lambda _: None)


def _begin_copy(folder: Path) -> None:
    source, target = (open_objects(str(folder / name)) for name in ("store", "copying"))
    Sync(kind=STORE, source=source, target=target, config=SyncConfig()).run()
    target.put("sync.json", json.dumps({"identity": STORE.identity(source)}).encode())
    target.delete("melbank.json")


def _short(value: Any, length: int = 40) -> str:
    """Text of a value; of a whole number of thousands of digits too."""
    text = f"{value:x}" if type(value) is int else str(value)
    return text.replace("\ud800", "\\ud800")[:length]


def nasty_values(outside: Path, rng: np.random.Generator) -> Any:
    """Draws a value that a reader does not expect."""
    values = (
        *(None, True, False, 0, 1, -1, 2, 2**31, 2**40, 2**63, -(2**63), 10**30, 10**5000),
        *(0.5, -1.0, 1e308, float("inf"), float("nan"), 1e12),
        *("", ".", "..", "/", "a\0b", "\ud800", "x" * 5000, "uint8", "foreign", "0", "1e9"),
        *(f"../{outside.name}/secret.tar", str(outside / "secret.tar"), "../store/melbank.json"),
        *("index/../../outside/secret.tar", "sub/secret.tar", "//secret.tar", "http://a/b.tar"),
        *([], {}, [None], [[]], {"a": 1}, ["../../x.tar"], [str(outside / "secret.tar")]),
    )
    return copy.deepcopy(values[rng.integers(len(values))])


def forge(folder: Path, rng: np.random.Generator, outside: Path) -> str:
    """Changes one file of a set, or what is in its place; says how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    heads = [path for path in files if path.suffix in (".json", ".parquet")]
    path = (heads if rng.random() < 0.75 else files)[rng.integers(1 << 30) % len(heads)]
    way = rng.random()
    if way < 0.12:
        told = _replace_place(folder, path, rng, outside)
    elif way < 0.35:
        path.write_bytes(_spoil_bytes(path.read_bytes(), rng))
        told = "bytes"
    else:
        told = _forge_content(path, rng, outside)
    if rng.random() < 0.85:
        _sign(folder)
    return f"{path.relative_to(folder)}: {told}"


def _forge_content(path: Path, rng: np.random.Generator, outside: Path) -> str:
    forgers: dict[str, Callable[..., tuple[bytes, str]]] = {
        ".json": _forge_json,
        ".parquet": _forge_table,
        ".tar": _forge_tar,
    }
    forger = forgers.get(path.suffix, _forge_zarr_shard)
    data, told = forger(path.read_bytes(), rng, outside)
    path.write_bytes(data)
    return told


def _forge_json(data: bytes, rng: np.random.Generator, outside: Path) -> tuple[bytes, str]:
    deep = (b"[" * 100_000, b'{"a":' * 20_000, b"[" * 500 + b"]" * 500, b"null", b"[]", b"3", b"")
    if rng.random() < 0.1:
        return deep[rng.integers(len(deep))], "deep"
    document = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in list(pairs):
            places.append((value, key))
            if isinstance(below, dict | list):
                collect(below)

    collect(document)
    for _ in range(1 + int(rng.random() < 0.2)):
        holder, key = places[rng.integers(len(places))]
        value, way = nasty_values(outside, rng), rng.random()
        if way < 0.6:
            if isinstance(holder, list) or key in holder:
                holder[key] = value
        elif isinstance(holder, dict):
            kept = holder.pop(key, None)
            if way < 0.85:
                holder[_short(value, 6000)] = kept
    return _dumped(document), f"{key} {_short(value)}"


def _dumped(document: Any) -> bytes:
    """JSON of any document, whole numbers of thousands of digits included."""
    marks = {}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(below) for key, below in value.items()}
        if isinstance(value, list):
            return [plain(below) for below in value]
        if isinstance(value, int) and abs(value) > 10**100:
            marks['"#huge"'] = "1" + "0" * 5000
            return "#huge"
        return value

    text = json.dumps(plain(document), indent=1)
    for mark, number in marks.items():
        text = text.replace(mark, number)
    return text.encode()


def _forge_table(data: bytes, rng: np.random.Generator, outside: Path) -> tuple[bytes, str]:
    frame = pl.read_parquet(io.BytesIO(data))
    name = frame.columns[rng.integers(len(frame.columns))]
    value = nasty_values(outside, rng)
    if type(value) is int:
        value = min(value, 10**30)  # pytest could not show what Polars raises inside
    odd = ("part", "", "row_right", "path", "#recording_no", "reason", "keeper", name.upper())
    kind = _DTYPES[rng.integers(len(_DTYPES))]
    rows = rng.permutation(len(frame))
    changes: list[Callable[[], pl.DataFrame]] = [
        lambda: frame.drop(name),
        lambda: frame.rename({name: odd[rng.integers(len(odd))]}),
        lambda: frame.with_columns(pl.lit(1).alias(odd[rng.integers(len(odd))])),
        lambda: frame.with_columns(pl.lit(None, kind).alias(name)),
        lambda: frame.with_columns(pl.col(name).cast(kind, strict=False)),
        lambda: frame.with_columns(pl.lit(value).alias(name)),
        lambda: _with_value(frame, name, value, rng),
        lambda: _with_value(frame, name, value, rng),
        lambda: frame[rows],
        lambda: frame[rng.integers(0, max(1, len(frame)), 2 * len(frame))],
        lambda: frame[: len(frame) // 2],
        lambda: frame.clear(),
        lambda: frame.select(pl.lit(0).alias(name)).select(pl.all().repeat_by(3_000_000).explode()),
    ]
    number = int(rng.integers(len(changes)))
    try:
        return encode_table(changes[number]()), f"{name} change {number} {_short(value)} {kind}"
    except (pl.exceptions.PolarsError, ValueError, TypeError, OverflowError):
        return data, "nothing"


def _with_value(
    frame: pl.DataFrame, name: str, value: Any, rng: np.random.Generator
) -> pl.DataFrame:
    """Puts a value into one row of a column, as far as its type takes it."""
    values = frame[name].to_list()
    values[rng.integers(len(values))] = value
    return frame.with_columns(pl.Series(name, values, dtype=frame[name].dtype))


def _forge_tar(data: bytes, rng: np.random.Generator, outside: Path) -> tuple[bytes, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
        header = dict(tar.pax_headers)
    number = int(rng.integers(len(members)))
    info, body = members[number]
    value = nasty_values(outside, rng)
    way = int(rng.integers(5))
    if way == 0:
        info.name = _short(value, 300).replace("\ud800", "\udc80") or "x"
    elif way == 1 and info.name.endswith(".json"):
        body, _ = _forge_json(body, rng, outside)
    elif way == 2:
        body = _spoil_bytes(body, rng)
    elif way == 3 and info.name.endswith(".npy"):
        shape = ("(" * 3000, "(1e9,)", f"({10**12}, {10**12})", "(8, 32)", "'a'", "[[" * 99)
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape[rng.integers(6)]}, }}"
        body = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + body[-256:]
    else:
        recipe, _ = _forge_json(header["MELBANK.recipe"].encode(), rng, outside)
        header["MELBANK.recipe"] = recipe.decode()
        header["MELBANK.check"] = header_check(recipe.decode(), header["MELBANK.store_id"])
    members[number] = info, body
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=header
    ) as tar:
        for one, content in members:
            one.size = len(content)
            one.pax_headers = {}
            tar.addfile(one, io.BytesIO(content))
    return buffer.getvalue(), f"member {number} way {way} {_short(value)}"


def _forge_zarr_shard(data: bytes, rng: np.random.Generator, outside: Path) -> tuple[bytes, str]:
    del outside
    pairs = np.frombuffer(data[-INDEX_BYTES:-4], "<u8").reshape(-1, 2).copy()
    values = (0, 1, 2**20, 2**31, 2**40, 2**62, 2**63, 2**64 - 1, 2**64 - 7)
    way = int(rng.integers(3))
    if way == 0:
        pairs[rng.integers(4), rng.integers(2)] = values[rng.integers(len(values))]
    elif way == 1:
        lengths = np.full(len(pairs), values[rng.integers(5)] + 1, np.uint64)
        pairs = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    else:
        pairs = pairs[rng.permutation(len(pairs))]
    index = pairs.astype("<u8").tobytes()
    return data[:-INDEX_BYTES] + index + crc32c_bytes(index), f"zarr index way {way}"


def _spoil_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    way = int(rng.integers(6))
    if way == 0 or not data:
        return b""
    if way == 1:
        return data[: rng.integers(len(data))]
    if way == 2:
        return data + rng.bytes(100)
    if way == 3:
        return rng.bytes(len(data))
    for _ in range(1 + 7 * (way == 5)):
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _replace_place(folder: Path, path: Path, rng: np.random.Generator, outside: Path) -> str:
    """Puts something else in the place of a file, or of a folder of the set."""
    way = int(rng.integers(8))
    inside = path.parent if path.parent != folder else path
    if way == 0:
        path.unlink()
        path.mkdir()
    elif way == 1:
        shutil.copy(path, outside / path.name)
        path.unlink()
        path.symlink_to(outside / path.name)
    elif way == 2:
        path.unlink()
        path.symlink_to(path)
    elif way == 3:
        path.unlink()
        os.mkfifo(path)
    elif way == 4 and inside != path:
        shutil.copytree(inside, outside / inside.name, dirs_exist_ok=True)
        shutil.rmtree(inside)
        inside.symlink_to(outside / inside.name)
    elif way == 5:
        (folder / ".lock").unlink(missing_ok=True)
        (folder / ".lock").symlink_to(outside / "secret.tar")
    elif way == 6:
        shutil.rmtree(folder / ".tmp", ignore_errors=True)
        (folder / ".tmp").symlink_to(outside)
    else:
        path.unlink()
    return f"place {way}"


def _sign(folder: Path) -> None:
    """Makes the checksums of a set right again, as far as its files can be read."""
    signers = {"catalog.json": _sign_catalog, "shards.json": _sign_shards}
    signers["melbank.json"] = lambda document, _: document.update(
        recipe_hash=digest_json(document["recipe"])[:16]
    )
    for name in ("melbank.json", "catalog.json", "shards.json", "unfinished/shards.json"):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            continue
        try:
            document = json.loads(path.read_bytes())
            signers[path.name](document, folder)
            path.write_bytes(_dumped(document))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
            continue


def _sign_catalog(document: dict[str, Any], folder: Path) -> None:
    for name, entry in document["objects"].items():
        if isinstance(entry, dict) and (folder / name).is_file() and "sha256" in entry:
            data = (folder / name).read_bytes()
            entry["sha256"] = digest(data)
            if isinstance(entry.get("size"), int) and entry["size"] >= 0:
                entry["size"] = len(data)
    document["sha256"] = digest(canonical_json(document["objects"]))


def _sign_shards(document: dict[str, Any], folder: Path) -> None:
    for name, entry in document["files"].items():
        if isinstance(entry, dict) and (folder / name).is_file() and "sha256" in entry:
            data = (folder / name).read_bytes()
            entry["sha256"] = digest(data)
            if isinstance(entry.get("size_bytes"), int) and entry["size_bytes"] >= 0:
                entry["size_bytes"] = len(data)
    document["recipe_hash"] = digest_json(document["recipe"])[:16]
    document.pop("seal", None)
    document["seal"] = digest_json(document)
