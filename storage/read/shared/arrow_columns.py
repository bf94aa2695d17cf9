"""Columns of Polars over memory that is there already, without a copy.

Polars reads Arrow files into its own memory, also uncompressed ones. By Arrow's C data
interface (https://arrow.apache.org/docs/format/CDataInterface.html) it takes buffers as they are:
those of a mapped file stay in the page cache, once for all processes of a machine.

What is given to Polars stays mapped until the process ends. To let go earlier it would have to
call into Python from threads that may not hold its lock, where the lock's owner may wait for them.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import polars as pl

FORMATS: dict[pl.DataType, str] = {
    pl.Int8(): "c",
    pl.UInt8(): "C",
    pl.Int16(): "s",
    pl.UInt16(): "S",
    pl.Int32(): "i",
    pl.UInt32(): "I",
    pl.Int64(): "l",
    pl.UInt64(): "L",
    pl.Float32(): "f",
    pl.Float64(): "g",
    pl.Boolean(): "b",
    pl.String(): "vu",
    pl.List(pl.String()): "+L",
}
_NULLABLE = 2  # flag of a schema
_kept: list["ArrowColumn"] = []

# Arrow's `release`, where nothing is to be released: of Python's functions one that needs no lock,
# changes nothing and may be called at any time.
_NOTHING = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _Schema(ctypes.Structure):
    """ArrowSchema, by the names that Arrow gives its fields."""

    _fields_ = (
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_char_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Array(ctypes.Structure):
    """ArrowArray, by the names that Arrow gives its fields."""

    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class ArrowColumn:
    """Column of `length` cells in Arrow's layout: the buffers that its format asks for, in order.

    The first one has the bits of cells that are not null; None: there are no nulls. `cells` is the
    column of the cells of lists. Nothing is checked: wrong buffers crash the process.
    """

    def __init__(
        self,
        form: str,
        length: int,
        buffers: Sequence[np.ndarray | None],
        cells: "ArrowColumn | None" = None,
    ) -> None:
        self._buffers = tuple(buffers)
        self._cells = cells
        addresses = [None if one is None else one.ctypes.data for one in buffers]
        self._addresses = (ctypes.c_void_p * len(buffers))(*addresses)
        self._schema = _Schema(format=form.encode(), name=b"", flags=_NULLABLE, release=_NOTHING)
        self._array = _Array(
            length=length,
            null_count=0 if buffers[0] is None else -1,  # to be counted
            n_buffers=len(buffers),
            buffers=ctypes.addressof(self._addresses),
            release=_NOTHING,
        )
        if cells is not None:
            self._schema_below = ctypes.c_void_p(ctypes.addressof(cells._schema))
            self._array_below = ctypes.c_void_p(ctypes.addressof(cells._array))
            self._schema.n_children = self._array.n_children = 1
            self._schema.children = ctypes.addressof(self._schema_below)
            self._array.children = ctypes.addressof(self._array_below)

    def __arrow_c_array__(self, _: object = None) -> tuple[object, object]:
        """Returns capsules of schema and array, as the interface for Python has it."""
        return (
            _new_capsule(ctypes.addressof(self._schema), b"arrow_schema", None),
            _new_capsule(ctypes.addressof(self._array), b"arrow_array", None),
        )

    def series(self, name: str) -> pl.Series:
        """Returns the column, for as long as the process lives."""
        _kept.append(self)
        return pl.Series(values=self).alias(name)
