"""`melbank.json`: what a store is, so that it can be recognised and read by anybody."""

import json
from dataclasses import dataclass
from typing import Any, Self

from storage.errors import ConfigError, DamageError, NoStoreError, StoreError
from storage.format.chunk_codecs import CODECS, ZSTD
from storage.format.zarr_shards import ARRAY, ARRAY_METADATA, SLICES_PER_ZARR_SHARD
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.protocol import Objects
from storage.recipe import Recipe
from storage.untrusted import MAX_ROW, parse_json, record_of, text_of, whole_of

NAME = "melbank.json"
FORMAT = "melbank store"
VERSION_OF_ZSTD, VERSION = 1, 2  # before there were other codecs, and since


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The identity of a store and the recipe of its slices; `part_slices` sizes later parts.

    `codec` packs the slices and changes none of their values, so it is no part of the recipe. A
    store of zstd is written as of version 1, which any melbank reads and continues.
    """

    store_id: str
    recipe: Recipe
    part_slices: int
    codec: str = ZSTD

    def to_dict(self) -> dict[str, Any]:
        """The document."""
        return {
            "format": FORMAT,
            "version": VERSION_OF_ZSTD if self.codec == ZSTD else VERSION,
            "store_id": self.store_id,
            "array": ARRAY,
            **({} if self.codec == ZSTD else {"codec": self.codec}),
            "slices_per_zarr_shard": SLICES_PER_ZARR_SHARD,
            "part_slices": self.part_slices,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.digest(),
        }

    def encode(self) -> bytes:
        """The file's bytes."""
        return (json.dumps(self.to_dict(), indent=2) + "\n").encode()

    @classmethod
    def read(cls, objects: Objects) -> Self:
        """The manifest of a store; raises StoreError where there is none or a foreign one."""
        if not objects.exists(NAME):
            check_not_half_copied(objects)
            raise NoStoreError(
                f"{objects.url} is not a melbank store: it has no {NAME}. "
                "Build one with: python -m tools.build_store source.root=DIR store=" + objects.url
            )
        try:
            document = parse_json(objects.get(NAME))
        except ValueError as error:
            raise DamageError(
                f"{objects.describe(NAME)} is damaged ({error}): run tools.verify --repair"
            ) from error
        return cls.from_dict(document, objects.describe(NAME))

    @classmethod
    def from_dict(cls, document: Any, name: str) -> Self:
        """The manifest of a document; DamageError where it does not hold together."""
        try:
            document = record_of(document)
            version = document["version"]
            if document["format"] != FORMAT or version not in (VERSION_OF_ZSTD, VERSION):
                raise StoreError(
                    f"{name} is of {document['format']} version {version}; "
                    f"this melbank reads {FORMAT} version {VERSION_OF_ZSTD} and {VERSION}"
                )
            recipe = Recipe.from_dict(document["recipe"])
            manifest = cls(
                store_id=text_of(document, "store_id"),
                recipe=recipe,
                part_slices=whole_of(document, "part_slices", least=1, most=MAX_ROW),
                codec=ZSTD if version == VERSION_OF_ZSTD else _codec_of(document),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{name} is damaged: {error!r}; run tools.verify --repair") from error
        if recipe.digest() != document.get("recipe_hash"):
            raise DamageError(
                f"{name} is damaged: the recipe differs from its hash; run tools.verify --repair"
            )
        return manifest

    def check_recipe(self, wanted: Recipe, url: str) -> None:
        """Raises ConfigError unless new slices would be made like those in the store."""
        if self.recipe != wanted:
            raise ConfigError(
                f"{url} was built with another recipe ({wanted.difference(self.recipe)}): "
                "give that recipe, or another store=DIR"
            )

    def check_codec(self, wanted: str | None, url: str) -> None:
        """Raises ConfigError where a codec is wanted that is not the store's own."""
        if wanted not in (None, self.codec):
            raise ConfigError(
                f"{url} keeps its slices in {self.codec}: leave out build.codec={wanted}, or give "
                "another store=DIR"
            )


def _codec_of(document: dict[str, Any]) -> str:
    """The codec that a document names; ValueError on an unknown one."""
    codec = text_of(document, "codec")
    if codec not in CODECS:
        raise ValueError(f"codec {codec[:40]!r} is none of {', '.join(CODECS)}")
    return codec


def read_manifest(objects: Objects) -> Manifest:
    """Reads the manifest from `melbank.json` or, where that is damaged, its copy in `zarr.json`."""
    try:
        return Manifest.read(objects)
    except StoreError:
        try:
            document = parse_json(objects.get(ARRAY_METADATA))["attributes"]["melbank"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{objects.url}: {NAME} and {ARRAY_METADATA} are both damaged; with them "
                "the recipe is lost"
            ) from error
        return Manifest.from_dict(document, objects.describe(ARRAY_METADATA))
