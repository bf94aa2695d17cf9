"""Marker of a copy under way: while it is there, only `tools.sync` may write next to it.

What is built into half a copy would take the place of objects that are still to come.
"""

from storage.errors import StoreError
from storage.objects.protocol import Objects

NAME = "sync.json"  # says of what it is a copy


def check_not_half_copied(objects: Objects) -> None:
    """Raises StoreError where `tools.sync` has begun a copy and not ended it."""
    if objects.exists(NAME):
        raise StoreError(
            f"{objects.url} is a copy that tools.sync has not finished: run the same tools.sync "
            f"again, or, to keep what is there, delete {objects.describe(NAME)}"
        )
