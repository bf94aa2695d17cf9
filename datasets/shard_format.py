"""The files of a shard set, their names, and what stands in `shards.json`.

shard-000000.tar ...  KEY.json and KEY.mel.npy for each slice, recordings whole and in order
shards.parquet        one line per slice: shard, offset, length, and the slice index
recordings.parquet    the recordings of these slices, as in the store
shards.json           recipe, sizes and checksums of all of these; written last, the commit
"""

import io
import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from storage.errors import StoreError
from storage.objects import LocalObjects
from storage.recipe import Recipe

MANIFEST = "shards.json"
INDEX = "shards.parquet"
RECORDINGS = "recordings.parquet"
FORMAT = "melbank shards"
VERSION = 1

TAR_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the set; `num_slices` is that of a shard, 0 for other files."""

    size_bytes: int
    sha256: str
    num_slices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """`shards.json`. `plan` tells from what, and with which options, the set was written."""

    store_id: str
    recipe: Recipe
    plan: str
    files: dict[str, FileEntry]

    @property
    def shards(self) -> dict[str, FileEntry]:
        """The tars, in order."""
        return {name: entry for name, entry in self.files.items() if name.endswith(".tar")}

    def encode(self) -> bytes:
        """The file's bytes."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "store_id": self.store_id,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.digest(),
            "plan": self.plan,
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
        }
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def read(cls, objects: LocalObjects) -> Self:
        """The manifest of a set; raises StoreError where there is none, or it is not whole."""
        if not objects.exists(MANIFEST):
            raise StoreError(
                f"{objects.url} is not a finished shard set: it has no {MANIFEST}. Write it, or "
                f"finish it, with: python -m tools.write_shards store=DIR shards={objects.url}"
            )
        try:
            document = json.loads(objects.get(MANIFEST))
            if document["format"] != FORMAT or document["version"] != VERSION:
                raise StoreError(
                    f"{objects.url} is {document['format']} version {document['version']}; "
                    f"this melbank reads {FORMAT} version {VERSION}"
                )
            recipe = Recipe.from_dict(document["recipe"])
            files = {name: FileEntry(**entry) for name, entry in document["files"].items()}
            manifest = cls(
                store_id=document["store_id"], recipe=recipe, plan=document["plan"], files=files
            )
            if not {INDEX, RECORDINGS} <= files.keys():
                raise KeyError(INDEX, RECORDINGS)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{objects.path(MANIFEST)} is damaged: {error!r}") from error
        if recipe.digest() != document.get("recipe_hash"):
            raise StoreError(f"{objects.path(MANIFEST)}: the recipe differs from its hash")
        return manifest


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06d}.tar"


def sample_key(recording_id: str, slice_no: int) -> str:
    """The key of a slice in a tar: no dot may be in it, since readers cut there."""
    return f"{recording_id.replace('%', '%25').replace('.', '%2E')}_{slice_no:05d}"


def npy_header(recipe: Recipe) -> bytes:
    """What stands before the cells of a slice in its .npy member."""
    buffer = io.BytesIO()
    empty: np.ndarray = np.zeros(recipe.slice_shape, recipe.dtype)
    np.lib.format.write_array(buffer, empty, allow_pickle=False)
    return buffer.getvalue()[: -recipe.slice_bytes]


def padded(size_bytes: int) -> int:
    """A size rounded up to whole tar blocks."""
    return -(-size_bytes // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES


def describe_sample(recording: dict[str, Any], line: dict[str, Any]) -> bytes:
    """The .json member of a slice, for readers that know nothing of the side index.

    `recording` and `line` are a line of the recordings and of the slice index.
    """
    names = ("recording_id", "primary_label", "secondary_labels", "filename")
    fields = {name: recording[name] for name in names}
    fields |= {name: line[name] for name in ("slice_no", "start_s", "row", "max_db", "crc32c")}
    return json.dumps(fields, sort_keys=True).encode()
