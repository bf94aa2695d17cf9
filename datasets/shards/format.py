"""Format of a shard set: its files, `shards.json`, and the members of the tars.

shard-000000.tar ...  KEY.json and KEY.mel.npy for each slice, recordings complete and in order
shards.parquet        one line per slice: shard, offset, length, the slice index, label_hash
recordings.parquet    the recordings of these slices, as in the store
shards.json           recipe, sizes and checksums of all of these; written last, the commit

Each tar begins with a global pax header, hidden from readers: the recipe and the store's id. So a
tar is self-describing. The .json members are as of writing; `label_hash` identifies those whose
labels have changed since.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from storage.audio import features
from storage.checksums import canonical_json, crc32c, digest, digest_json
from storage.errors import NoStoreError, StoreError
from storage.format.tables import INDEX_SCHEMA, LABEL_COLUMNS, RECORDING_SCHEMA
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.protocol import Listing, Objects
from storage.recipe import Recipe
from storage.untrusted import (
    MAX_ROW,
    TableRule,
    check_plain,
    parse_json,
    record_of,
    sha256_of,
    text_of,
    whole_of,
)

MANIFEST = "shards.json"
LISTING = Listing(name=MANIFEST, section="files", size_key="size_bytes")
INDEX = "shards.parquet"
RECORDINGS = "recordings.parquet"
FORMAT = "melbank shards"
VERSION = 1

TAR_BLOCK_BYTES = 512
MEMBERS = ("json", "mel.npy")
PAX_RECIPE, PAX_STORE_ID, PAX_CHECK = "MELBANK.recipe", "MELBANK.store_id", "MELBANK.check"
JSON_CHECK = "json_crc32c"  # in a .json member: the crc32c of its other fields, as JSON

TARS = "tars-"  # prefix of the store_id of tars that other programs have written

PLACE_SCHEMA = {"shard": pl.String, "offset": pl.Int64, "length": pl.Int64}
LABEL_HASH = "label_hash"
LABELS = ("recording_id", *LABEL_COLUMNS)
ABOUT_RECORDING = (*LABELS, "duration_s", "sample_rate_hz")
SLICE_COLUMNS = tuple(  # of the slice index, which the tars repeat
    name for name in INDEX_SCHEMA if name not in features.SCHEMA or name in features.IN_SHARDS
)
ABOUT_SLICE = tuple(name for name in SLICE_COLUMNS if name != "recording_id")
HELD_SCHEMA = {  # place and checksum of the slices that are in a set
    **PLACE_SCHEMA,
    **{name: INDEX_SCHEMA[name] for name in ("row", "crc32c")},
    LABEL_HASH: pl.UInt64,
}
_WHOLE_ROW = (0, MAX_ROW - 1)
INDEX_RULE = TableRule(
    schema={
        **PLACE_SCHEMA,
        **{name: INDEX_SCHEMA[name] for name in SLICE_COLUMNS},
        LABEL_HASH: pl.UInt64,
    },
    filled=(*PLACE_SCHEMA, "row", "recording_id", "slice_no", "crc32c", LABEL_HASH),
    ranges={"row": _WHOLE_ROW, "slice_no": (0, 2**31 - 1), "offset": (0, 2**48)},
)
RECORDINGS_RULE = TableRule(
    schema={name: RECORDING_SCHEMA[name] for name in (*ABOUT_RECORDING, "first_row", "num_slices")},
    filled=("recording_id", "first_row", "num_slices"),
    ranges={"first_row": _WHOLE_ROW, "num_slices": (1, 2**31 - 1)},
    rising="first_row",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """Entry of a file: size, sha256 in hex, and slices of a shard (0 for other files)."""

    size_bytes: int
    sha256: str
    num_slices: int = 0

    @classmethod
    def of(cls, value: Any) -> Self:
        """Reads an entry; ValueError where it is none."""
        entry = record_of(value, "an entry")
        return cls(
            size_bytes=whole_of(entry, "size_bytes"),
            sha256=sha256_of(entry, "sha256"),
            num_slices=whole_of({"num_slices": 0, **entry}, "num_slices", most=MAX_ROW),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """Contents of `shards.json`."""

    store_id: str
    recipe: Recipe
    files: dict[str, FileEntry]

    @property
    def identity(self) -> str:
        """Identity of the source of the shards."""
        return identity_of(self.store_id, self.recipe)

    @property
    def shards(self) -> dict[str, FileEntry]:
        """Entries of the tars, in order."""
        return {name: entry for name, entry in self.files.items() if name.endswith(".tar")}

    def encode(self) -> bytes:
        """Encodes as the bytes of `shards.json`, with a self-checksum."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "store_id": self.store_id,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.digest(),
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
        }
        document["seal"] = digest_json(document)
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def read(cls, objects: Objects, name: str = MANIFEST) -> Self:
        """Reads the manifest of a set; raises StoreError where it is missing or damaged."""
        if not objects.exists(name):
            check_not_half_copied(objects)
            raise NoStoreError(
                f"{objects.url} is not a finished shard set: it has no {MANIFEST}. Write it, or "
                f"finish it, with: python -m tools.write_shards store=DIR shards={objects.url}; "
                f"for tars made elsewhere: python -m tools.index_shards shards={objects.url}"
            )
        try:
            document = record_of(parse_json(objects.get(name)))
            if document["format"] != FORMAT or document["version"] != VERSION:
                raise StoreError(
                    f"{objects.url} is {document['format']} version {document['version']}; "
                    f"this melbank reads {FORMAT} version {VERSION}"
                )
            recipe = Recipe.parse(document["recipe"])
            entries = record_of(document["files"], "`files`")
            files = {check_file_name(name): FileEntry.of(entry) for name, entry in entries.items()}
            manifest = cls(store_id=text_of(document, "store_id"), recipe=recipe, files=files)
            if not {INDEX, RECORDINGS} <= files.keys():
                raise KeyError(INDEX, RECORDINGS)
            if document.pop("seal") != digest_json(document):
                raise ValueError("its self-checksum differs")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{objects.describe(name)} is damaged ({error!r}): python -m tools.index_shards "
                f"shards={objects.url} rebuilds it from the tars"
            ) from error
        return manifest


def check_file_name(name: object) -> str:
    """Returns a name; ValueError unless a set may have such a file in its folder."""
    if name not in (INDEX, RECORDINGS) and not str(name).endswith(".tar"):
        raise ValueError(f"{name!r} is no file of a shard set")
    return check_plain(name, flat=True)


def identity_of(store_id: str, recipe: Recipe) -> str:
    """Returns the identity of the source of shards: store and recipe."""
    return f"{store_id} {recipe.digest()}"


def shard_name(number: int) -> str:
    """Returns the file name of a shard."""
    return f"shard-{number:06d}.tar"


def shard_number(name: str) -> int:
    """Parses the number in the name of a shard; -1 for names of other programs."""
    digits = name.removeprefix("shard-").removesuffix(".tar")
    return int(digits) if name == f"shard-{digits}.tar" and digits.isdecimal() else -1


def sample_key(recording_id: str, slice_no: int) -> str:
    """Returns the key of a slice in a tar, with dots escaped, since readers cut there."""
    return f"{recording_id.replace('%', '%25').replace('.', '%2E')}_{slice_no:05d}"


def npy_header(recipe: Recipe) -> bytes:
    """Returns the header of the .npy member of a slice."""
    buffer = io.BytesIO()
    empty: np.ndarray = np.zeros(recipe.slice_shape, recipe.dtype)
    np.lib.format.write_array(buffer, empty, allow_pickle=False)
    return buffer.getvalue()[: -recipe.slice_bytes]


def pax_header(recipe: Recipe, store_id: str) -> dict[str, str]:
    """Builds the global pax header of the tars that we write."""
    text = canonical_json(recipe.to_dict()).decode()
    return {PAX_RECIPE: text, PAX_STORE_ID: store_id, PAX_CHECK: header_check(text, store_id)}


def header_check(recipe: str, store_id: str) -> str:
    """Computes the checksum of a global pax header, 16 hex digits."""
    return digest(f"{store_id}\n{recipe}".encode())[:16]


def padded(size_bytes: int) -> int:
    """Rounds a size up to full tar blocks."""
    return -(-size_bytes // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES


def describe_sample(recording: dict[str, Any], line: dict[str, Any]) -> bytes:
    """Encodes the .json member of a slice, for readers without the side index.

    `recording` and `line` are a line of the recordings and of the slice index.
    """
    fields = {name: recording[name] for name in ABOUT_RECORDING}
    fields |= {name: line[name] for name in ABOUT_SLICE}
    fields[JSON_CHECK] = json_check(fields)
    return canonical_json(fields)


def json_check(fields: dict[str, Any]) -> int:
    """Computes the crc32c of the fields of a .json member."""
    return crc32c(canonical_json(fields))


def label_hash(labels: dict[str, Any]) -> int:
    """Hashes the labels and the filename of a recording to 64 bits."""
    text = json.dumps([labels[name] or None for name in LABELS])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def label_hashes(recordings: pl.DataFrame) -> pl.Series:
    """Returns the label hash of each recording, uint64 [n]."""
    lines = recordings.select(LABELS).iter_rows(named=True)
    return pl.Series(LABEL_HASH, [label_hash(line) for line in lines], dtype=pl.UInt64)
