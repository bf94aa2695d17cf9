"""Extents of objects in object stores: many ranged requests in flight, over objects and batches.

What is announced is asked for at once, so that several batches are on their way while one is
decoded; what arrives waits, in bounded bytes, until it is read, in the order of reading. Bytes
that changed on the way are fetched again.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from storage.objects.client import RemoteConfig
from storage.objects.retry import POLICY
from storage.objects.urls import is_remote, is_web
from storage.objects.web_answers import check_ranges
from storage.read.coalesce import GAP_BYTES, MergedRanges, merge_ranges
from storage.read.downloads import ShardDownloads
from storage.read.event_loop import background_loop
from storage.read.extents import (
    AnnouncedRead,
    BadExtent,
    ExtentReader,
    Extents,
    cells_as_bytes,
    open_path,
    unpack,
)
from storage.read.requests import Fetcher, locate

_APART = 1 << 43  # bytes, more than an object has: the ranges of two objects are never merged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Arrived:
    """Answers for some extents: the positions of those on this machine, for which nothing
    had to come, and of the others, with the answers for them.
    """

    here: np.ndarray
    ranged: np.ndarray
    merged: MergedRanges
    answers: list[Any]


class RemoteReader:
    """Reads extents into arrays where some objects are URLs; safe to use from several threads.

    With `downloads` whole shards are brought into the cache meanwhile, and read from there once
    they are whole; where checksums are checked, slices that have come are kept until then.
    """

    def __init__(
        self, config: RemoteConfig, *, check: bool, downloads: ShardDownloads | None
    ) -> None:
        self._check = check
        self._fetcher = Fetcher(config, None if downloads is None else downloads.line)
        self._downloads = downloads
        self._files = ExtentReader(check=check, open_file=self._open)
        self._kept = None if downloads is None or not check else downloads
        self._kept_files = ExtentReader(check=check, open_file=self._open_kept)
        self._announced: set[AnnouncedRead] = set()
        self._ahead_bytes = 0
        self._served_well: set[str] = set()
        self._waited_for: set[Future[_Arrived]] = set()

    @property
    def wants_more(self) -> bool:
        """True where more should be announced before the next read."""
        return self._ahead_bytes < self._fetcher.pace.ahead_bytes

    def close(self) -> None:
        """Calls off what was announced and not read."""
        for announced in list(self._announced):
            if announced.request is not None:
                announced.request.cancel()
        self._announced.clear()
        self._ahead_bytes = 0
        self.release_files()

    def interrupt(self) -> None:
        """Ends, from another thread, what waits for an answer: CancelledError there."""
        for arrived in list(self._waited_for):
            arrived.cancel()

    def release_files(self) -> None:
        """Closes what is open on this machine; it is opened again when needed."""
        self._files.close()

    def announce(self, extents: Extents) -> AnnouncedRead:
        """Requests extents ahead of reading; returns the handle that `try_read` takes."""
        request = None
        if not self._is_all_whole(extents):
            request = background_loop().submit(self._gather(extents))
        announced = AnnouncedRead(extents=extents, request=request)
        self._announced.add(announced)
        self._ahead_bytes += announced.num_bytes
        return announced

    def try_read(self, wanted: Extents | AnnouncedRead, out: np.ndarray) -> list[BadExtent]:
        """Fills contiguous `out` [n, ...] with decoded slices; returns those that are damaged.

        The cells of a bad slice are zero. Raises what `Fetcher.fetch` does.
        """
        extents = wanted.extents if isinstance(wanted, AnnouncedRead) else wanted
        views = cells_as_bytes(out, len(extents))
        arrived = self._arrived(self._take(wanted), extents)
        self._fetcher.pace.note_read(int(extents.length.sum()), time.monotonic())
        bad = self._decode(extents, arrived, out) if len(arrived.ranged) else {}
        if len(arrived.here):
            bad |= self._read_here(extents, arrived.here, out)
        for _ in range(POLICY.reads - 1):
            again = [key for key in sorted(bad) if is_remote(extents.object_of(key))]
            if not again:
                break
            bad = {key: reason for key, reason in bad.items() if key not in again}
            gathered = self._gather(extents, again=np.array(again))
            bad |= self._decode(extents, self._wait(background_loop().submit(gathered)), out)
        self._check_servers({extents.object_of(position) for position in bad})
        for position in bad:
            views[position] = 0
        return [
            BadExtent(
                position=position,
                object=extents.object_of(position),
                offset=int(extents.offset[position]),
                reason=reason,
            )
            for position, reason in sorted(bad.items())
        ]

    def _check_servers(self, urls: set[str]) -> None:
        """Raises RemoteError where what looks like damage is a web server's doing."""
        for url in filter(is_web, urls - self._served_well):
            remote, key = locate(url, self._fetcher.config)
            remote.call(key, partial(check_ranges, url, remote.store))
            self._served_well.add(url)

    def _take(self, wanted: Extents | AnnouncedRead) -> "Future[_Arrived] | None":
        """Takes over the request of a handle that was not read yet, nor called off by `close`."""
        if not isinstance(wanted, AnnouncedRead) or wanted not in self._announced:
            return None
        self._announced.remove(wanted)
        self._ahead_bytes -= wanted.num_bytes
        return wanted.request

    def _arrived(self, request: "Future[_Arrived] | None", extents: Extents) -> _Arrived:
        """Waits for a request; makes one where there is none and not all is on this machine."""
        if request is None:
            if self._is_all_whole(extents):
                nothing = np.empty(0, np.int64)
                merged = MergedRanges(begin=nothing, end=nothing, request_no=nothing)
                here = np.arange(len(extents))
                return _Arrived(here=here, ranged=nothing, merged=merged, answers=[])
            request = background_loop().submit(self._gather(extents))
        return self._wait(request)

    def _wait(self, arrived: "Future[_Arrived]") -> _Arrived:
        self._waited_for.add(arrived)
        try:
            return arrived.result()
        finally:
            self._waited_for.discard(arrived)

    def _open(self, name: str) -> int:
        """A descriptor of a local file, or of a cached shard."""
        if self._downloads is None or not is_remote(name):
            return open_path(name)
        return self._downloads.open(name)

    def _open_kept(self, name: str) -> int:
        """A descriptor of the kept slices of a shard."""
        if self._kept is None:
            raise FileNotFoundError(name)
        return self._kept.open_kept(name)

    def _is_whole(self, name: str) -> bool:
        """True where a local file, or a shard in the cache, has all its slices."""
        return not is_remote(name) or (
            self._downloads is not None and self._downloads.is_whole(name)
        )

    def _is_all_whole(self, extents: Extents) -> bool:
        """True where nothing has to come from a server."""
        if self._downloads is None:
            return False
        present = set(extents.object_no.tolist())
        return all(self._is_whole(extents.objects[number]) for number in present)

    def _is_here(self, extents: Extents) -> np.ndarray:
        """Returns a mask, bool [n], of the extents that can be read on this machine."""
        here = np.zeros(len(extents), bool)
        for number in set(extents.object_no.tolist()):
            name, own = extents.objects[number], extents.object_no == number
            if self._is_whole(name):
                here |= own
            elif self._kept is not None:
                here[own] = self._kept.has_kept(name, extents.offset[own])
        return here

    async def _gather(self, extents: Extents, *, again: np.ndarray | None = None) -> _Arrived:
        """Runs in the background loop.

        `again`: positions of the slices to be requested from their servers, each by itself.
        """
        present, object_no = np.unique(extents.object_no, return_inverse=True)
        urls = [extents.objects[number] for number in present.tolist()]
        if self._downloads is not None and again is None:
            await self._downloads.hold(list(filter(is_remote, urls)))
        is_here = np.zeros(len(extents), bool) if again is not None else self._is_here(extents)
        ranged = np.flatnonzero(~is_here) if again is None else again
        apart = object_no[ranged] * _APART
        gap_bytes = GAP_BYTES if again is None else -1
        merged = merge_ranges(apart + extents.offset[ranged], extents.length[ranged], gap_bytes)
        object_of, begin = np.divmod(merged.begin, _APART)
        length = merged.end - merged.begin
        requests = zip(object_of.tolist(), begin.tolist(), length.tolist(), strict=True)
        answers = await self._fetcher.fetch_all(
            [(urls[number], at, at + size) for number, at, size in requests]
        )
        begins = MergedRanges(begin=begin, end=begin + length, request_no=merged.request_no)
        return _Arrived(here=np.flatnonzero(is_here), ranged=ranged, merged=begins, answers=answers)

    def _decode(self, extents: Extents, arrived: _Arrived, out: np.ndarray) -> dict[int, str]:
        """Decodes what was fetched into its rows of `out`; what is wrong, by position."""
        views = cells_as_bytes(out, len(out))
        bad = {}
        good: dict[str, list[tuple[int, memoryview]]] = {}
        answers = [memoryview(answer) for answer in arrived.answers]
        for position, request_no, begin, length, codec, crc in _places(extents, arrived):
            packed = answers[request_no][begin : begin + length]
            expected = crc if self._check else None
            if reason := unpack(packed, length, codec, views[position], expected):
                bad[position] = reason
            elif self._kept is not None:
                slices = good.setdefault(extents.object_of(position), [])
                slices.append((int(extents.offset[position]), packed))
        if self._kept is not None:
            for url, slices in good.items():
                self._kept.keep(url, slices)
        return bad

    def _read_here(self, extents: Extents, places: np.ndarray, out: np.ndarray) -> dict[int, str]:
        """Reads what is on this machine; what is wrong there, by position."""
        numbers = set(extents.object_no[places].tolist())
        whole = {number for number in numbers if self._is_whole(extents.objects[number])}
        if whole == numbers:
            return self._read_whole(extents, places, out)
        is_whole = np.isin(extents.object_no[places], list(whole))
        bad = self._read_whole(extents, places[is_whole], out)
        return bad | self._read_kept(extents, places[~is_whole], out)

    def _read_whole(self, extents: Extents, places: np.ndarray, out: np.ndarray) -> dict[int, str]:
        """Reads from local files and whole shards."""
        bad = self._read_files(self._files, extents, places, out)
        for position in bad:  # evicted meanwhile, or changed on this disk: the server knows
            if self._downloads is not None:
                self._downloads.distrust(extents.object_of(position))
        if bad:
            self._files.close()
        return bad

    def _read_kept(self, extents: Extents, places: np.ndarray, out: np.ndarray) -> dict[int, str]:
        """Reads from kept slices.

        Their files are not left open: who closes a deleted one last waits for the disk to free it.
        """
        bad = self._read_files(self._kept_files, extents, places, out)
        self._kept_files.close()
        for position in bad:  # dropped meanwhile, or never written: they are requested
            if self._kept is not None:
                offset = int(extents.offset[position])
                self._kept.distrust_kept(extents.object_of(position), offset)
        return bad

    def _read_files(
        self, files: ExtentReader, extents: Extents, places: np.ndarray, out: np.ndarray
    ) -> dict[int, str]:
        """Reads extents of files into their rows of `out`; what is wrong, by position."""
        if not len(places):
            return {}
        if len(places) == len(out):
            bad = files.try_read(extents, out)
        else:
            cells = np.empty_like(out, shape=(len(places), *out.shape[1:]))
            bad = files.try_read(extents[places], cells)
            out[places] = cells
        return {int(places[one.position]): one.reason for one in bad}


def _places(extents: Extents, arrived: _Arrived) -> Iterator[tuple[int, int, int, int, str, int]]:
    """Position, number of the answer, place in it, length, codec and crc32c of what was fetched."""
    ranged, request_no = arrived.ranged, arrived.merged.request_no
    begin = extents.offset[ranged] - arrived.merged.begin[request_no]
    return zip(
        ranged.tolist(),
        request_no.tolist(),
        begin.tolist(),
        extents.length[ranged].tolist(),
        [extents.codecs[number] for number in extents.object_no[ranged].tolist()],
        extents.crc32c[ranged].tolist(),
        strict=True,
    )
