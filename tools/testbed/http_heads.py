"""The little of HTTP/1.1 that a proxy has to read, and to say."""

import asyncio
import re
from dataclasses import dataclass
from typing import Self

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object that a proxy gives by itself."""

    headers: dict[str, str]
    body: memoryview

    def answer(self, spec: str) -> tuple[bytes, memoryview]:
        """The head of the answer, and the body, for a Range header or without one."""
        size = len(self.body)
        match = _RANGE.fullmatch(spec)
        begin, end, status = 0, size, "200 OK"
        if match:
            first, last = match.groups()
            begin = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            status = "206 Partial Content"
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {self.headers[name]}" for name in self.headers)]
        lines.append(f"content-length: {end - begin}")
        if match:
            lines.append(f"content-range: bytes {begin}-{end - 1}/{size}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), self.body[begin:end]


@dataclass(slots=True, kw_only=True)
class Head:
    """The head of a request or an answer, as it came and as it is read."""

    raw: bytes
    first: list[str]
    fields: dict[str, str]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """The next one of a connection; EOFError where it has ended."""
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        named = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return cls(raw=raw, first=first.split(" ", 2), fields=named)

    @property
    def length(self) -> int:
        """Bytes of the body, where it does not come in chunks."""
        return int(self.fields.get("content-length", 0))

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def kind(self) -> str:
        """The method of a request; LIST where it lists a bucket."""
        query = self.first[1].partition("?")[2]
        listing = "list-type=" in query or "prefix=" in query
        return "LIST" if self.first[0] == "GET" and listing else self.first[0]
