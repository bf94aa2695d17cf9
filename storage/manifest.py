"""`melbank.json`: what a store is, so that it can be recognised and read by anybody."""

import json
from dataclasses import dataclass
from typing import Self

from storage.errors import ConfigError, StoreError
from storage.objects import LocalObjects
from storage.recipe import Recipe
from storage.zarr_shards import ARRAY, SLICES_PER_ZARR_SHARD

NAME = "melbank.json"
FORMAT = "melbank store"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The identity of a store and the recipe of its slices; `part_slices` sizes later parts."""

    store_id: str
    recipe: Recipe
    part_slices: int

    def encode(self) -> bytes:
        """The file's bytes."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "store_id": self.store_id,
            "array": ARRAY,
            "slices_per_zarr_shard": SLICES_PER_ZARR_SHARD,
            "part_slices": self.part_slices,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.digest(),
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def read(cls, objects: LocalObjects) -> Self:
        """The manifest of a store; raises StoreError where there is none or a foreign one."""
        if not objects.exists(NAME):
            raise StoreError(
                f"{objects.url} is not a melbank store: it has no {NAME}. "
                "Build one with: python -m tools.build_store source.root=DIR store=" + objects.url
            )
        try:
            document = json.loads(objects.get(NAME))
            if document["format"] != FORMAT or document["version"] != VERSION:
                raise StoreError(
                    f"{objects.url} is {document['format']} version {document['version']}; "
                    f"this melbank reads {FORMAT} version {VERSION}"
                )
            recipe = Recipe.from_dict(document["recipe"])
            manifest = cls(
                store_id=document["store_id"],
                recipe=recipe,
                part_slices=int(document["part_slices"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{objects.path(NAME)} is damaged: {error!r}") from error
        if recipe.digest() != document.get("recipe_hash"):
            raise StoreError(f"{objects.path(NAME)} is damaged: the recipe differs from its hash")
        return manifest

    def check_recipe(self, wanted: Recipe, url: str) -> None:
        """Raises ConfigError unless new slices would be made like those in the store."""
        if self.recipe != wanted:
            raise ConfigError(
                f"{url} was built with another recipe ({wanted.difference(self.recipe)}): "
                "give that recipe, or another store=DIR"
            )
