"""Stores with and without mapped tables, for tests that hold one against the other."""

from unittest import mock

from storage.read.shared import store_tables
from storage.store import Store, open_store


def open_plain(url: str) -> Store:
    """Opens a store that reads its tables into memory, however large it is."""
    with mock.patch.object(store_tables, "SHARED_FROM", 10**12):
        return open_store(url)
