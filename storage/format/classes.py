"""`classes.json`: the classes of taxonomy.csv, where a source has no recording of some of them.

A hint for training, which else knows only the classes of recordings.
"""

import json
from collections.abc import Iterable

from storage.errors import DamageError
from storage.objects.protocol import Objects
from storage.untrusted import parse_json

NAME = "classes.json"
FORMAT = "melbank classes"


def encode_classes(classes: Iterable[str]) -> bytes:
    """The file's bytes."""
    document = {"format": FORMAT, "classes": list(classes)}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def put_classes(objects: Objects, classes: Iterable[str]) -> None:
    """Writes the classes of a store or shard set down; without any, deletes the file."""
    classes = tuple(classes)
    have = objects.get(NAME) if objects.exists(NAME) else None
    if classes and have != encode_classes(classes):
        objects.put(NAME, encode_classes(classes))
    elif have is not None and not classes:
        objects.delete(NAME)


def read_classes(objects: Objects) -> tuple[str, ...]:
    """The classes of a store or shard set; none where it has no such file."""
    if not objects.exists(NAME):
        return ()
    try:
        document = parse_json(objects.get(NAME))
        names = document["classes"]
        valid = document["format"] == FORMAT and all(isinstance(name, str) for name in names)
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{objects.describe(NAME)} is damaged: delete it, build again") from error
    if not valid:
        raise DamageError(f"{objects.describe(NAME)} is damaged: delete it, build again")
    return tuple(names)
