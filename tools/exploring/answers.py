"""Bodies of answers: JSON without NaN, packed arrays, files to save."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.responses import Response

ALIGNMENT = 8  # bytes


def json_answer(value: Any, status: int = 200) -> Response:
    """JSON, with null for NaN and the infinities."""
    body = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode("utf-8", "replace"), status, media_type="application/json")


def plain(value: Any) -> Any:
    """A value of JSON's own types."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def packed_answer(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Response:
    """Length of JSON, uint32; JSON; arrays: little endian, each from a multiple of 8 bytes on."""
    listed = [{"name": name, "type": str(array.dtype)} for name, array in arrays.items()]
    head = json.dumps(plain({**about, "arrays": listed})).encode()
    head += b" " * (-(len(head) + 4) % ALIGNMENT)
    parts = [len(head).to_bytes(4, "little"), head]
    for array in arrays.values():
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts += [data, b"\0" * (-len(data) % ALIGNMENT)]
    return Response(b"".join(parts), media_type="application/octet-stream")


def file_answer(data: bytes, name: str, media_type: str) -> Response:
    """A file that the browser saves under a name."""
    named = f"attachment; filename*=UTF-8''{quote(name)}"
    return Response(data, media_type=media_type, headers={"Content-Disposition": named})


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end of a Range header of one range; None for the whole, or what is not understood.

    ValueError where it begins after the end.
    """
    unit, _, spec = (header or "").partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or "," in spec:
        return None
    if not all(part == "" or (part.isdecimal() and len(part) < 19) for part in (first, last)):
        return None
    if first == "" and last == "":
        return None
    if first == "":
        return max(0, size - int(last)), size
    start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size or end <= start:
        raise ValueError(header)
    return start, end
