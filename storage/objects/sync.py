"""Makes a copy of a store or shard set equal to its source, between any two places.

    target = open_objects("s3://bucket/store")
    source = open_objects("data/store")
    report = Sync(kind=STORE, source=source, target=target, config=SyncConfig()).run()

A set is described by its `SetKind`: what its objects are, in the order in which they become
visible, and its head, the one object without which nobody takes it for a set. New data go first and
disturb nobody; if anything else changes, the copy's head goes before and comes back last. So a sync
that is killed leaves what was there before, or nothing that opens; run again, it goes on, and
leaves alone what has arrived.

The size and sha256 that the two sets record decide which objects of a bucket are equal: nothing is
read for those. An object that its set records without sha256, or that a killed sync has left, is
compared by the md5 that the server keeps of an upload of ours, else by its bytes; objects of a
local folder always by their bytes. What is read is checked before it is put, and what has arrived
is compared with what was put.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from storage.checksums import digest
from storage.errors import ConfigError, DamageError, StoreError
from storage.objects.copy_mark import NAME as MARKER
from storage.objects.protocol import Listing, Objects
from storage.objects.retry import POLICY
from storage.objects.urls import is_remote, local_path
from storage.options import check_at_least, option
from storage.progress import Progress, Step, silent
from storage.untrusted import parse_json, record_of, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """Settings of a copy."""

    in_flight: int = option(4, "objects on their way at once, each in memory")

    def __post_init__(self) -> None:
        check_at_least(self, "sync", 1, "in_flight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object of a set; `sha256` is empty where the set keeps none."""

    name: str
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """Contents that a copy must have.

    `data` are there without being seen; `tables` become visible in this order; the head is last.
    """

    identity: str
    data: tuple[Item, ...]
    tables: tuple[Item, ...]
    head: Item

    @property
    def items(self) -> tuple[Item, ...]:
        """All of it, in order."""
        return (*self.data, *self.tables, self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetKind:
    """Rules of one kind of set, stores or shard sets, for sync.

    `plan` reads a source; `identity` names the source of a copy; `owns` says whether a name is
    one of such a set's; `visible` whether an object counts although no other names it; `check`
    raises DamageError on bytes that are not valid in themselves. `recorded` returns the sha256 of
    the objects of a complete set. `immutable`: data never change. `listing`: for `open_objects`.
    """

    word: str
    head: str
    plan: Callable[[Objects], SyncPlan]
    identity: Callable[[Objects], str]
    owns: Callable[[str], bool]
    visible: Callable[[str], bool]
    check: Callable[[str, bytes], None]
    recorded: Callable[[Objects], Mapping[str, str]]
    immutable: bool
    listing: Listing


@dataclass(slots=True, kw_only=True)
class SyncReport:
    """Summary of what was done, or with `dry_run` would be."""

    source: str
    target: str
    dry_run: bool
    num_equal: int = 0
    num_copied: int = 0
    copied_bytes: int = 0
    num_replaced: int = 0
    deleted: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A line or two for the user."""
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.source} -> {self.target}: {self.num_copied:,} objects {would}copied, "
            f"{self.copied_bytes / 1e6:,.1f} MB, {self.num_replaced:,} of them in place of older "
            f"ones; {self.num_equal:,} equal already; {len(self.deleted):,} {would}deleted"
        ]
        if self.left_over:
            lines.append(
                f"{len(self.left_over):,} objects of {self.target} are not in the source, such as "
                f"{self.left_over[0]}: --delete takes them away"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """A copy of one set, at `target`, to be made equal to `source`."""

    kind: SetKind
    source: Objects
    target: Objects
    config: SyncConfig
    progress: Progress = silent

    def run(self, *, delete: bool = False, dry_run: bool = False) -> SyncReport:
        """Compares, then copies what differs; `delete` takes away what the source has no more.

        Raises StoreError where the source is not whole, ConfigError where the target is anything
        else than a copy of it, DamageError where bytes of the source are not what they should be.
        """
        check_apart(self.source.url, self.target.url)
        plan = self.kind.plan(self.source)
        self._check_target(plan)
        there = self.target.walk()
        wanted = {item.name for item in plan.items}
        extra = [name for name in there if self.kind.owns(name) and name not in wanted]
        self._check_extra(extra, delete)
        differing = self._compare(plan, there)
        report = SyncReport(
            source=self.source.url,
            target=self.target.url,
            dry_run=dry_run,
            num_equal=len(plan.items) - len(differing),
            num_copied=len(differing),
            copied_bytes=sum(item.size_bytes for item in differing),
            num_replaced=sum(item.name in there for item in differing),
            deleted=extra if delete else [],
            left_over=[] if delete else extra,
        )
        if not dry_run and (differing or report.deleted or MARKER in there):
            self._copy(plan, differing, there, report.deleted)
        return report

    def _check_target(self, plan: SyncPlan) -> None:
        """Raises ConfigError unless the target is empty, a copy, or one that was begun."""
        url, word = self.target.url, self.kind.word
        there = self.target.walk()  # first: the marker of a sync that was killed may just arrive
        if self.target.exists(self.kind.head):
            identity = self.kind.identity(self.target)
        elif self.target.exists(MARKER):
            identity = self._begun(self.target.get(MARKER))
        elif there:
            raise ConfigError(
                f"{url} is not empty and no {word} (it holds {next(iter(there))}): "
                "give a new folder"
            )
        else:
            return
        if identity != plan.identity:
            raise ConfigError(
                f"{url} is another {word} ({identity}) than {self.source.url} ({plan.identity}): "
                "give a new folder"
            )

    def _begun(self, marker: bytes) -> str:
        """Returns of what an unfinished copy is, by its marker; StoreError on a damaged one."""
        try:
            return text_of(record_of(parse_json(marker)), "identity")
        except ValueError as error:
            raise StoreError(
                f"{self.target.describe(MARKER)} is damaged ({error}), so that nobody knows of "
                "what this is a copy: delete the folder, or give a new one"
            ) from error

    def _check_extra(self, extra: Sequence[str], delete: bool) -> None:
        """Raises ConfigError where objects that the source lacks would be part of the copy."""
        visible = [name for name in extra if self.kind.visible(name)]
        if visible and not delete:
            raise ConfigError(
                f"{self.target.url} holds {visible[0]}, which {self.source.url} does not: it has "
                "changed by itself. Give --delete to make it equal, or a new folder"
            )

    def _compare(self, plan: SyncPlan, there: dict[str, int]) -> list[Item]:
        """The items that the target lacks, or has with other bytes, in the plan's order."""
        recorded: Mapping[str, str] = {}
        if is_remote(self.target.url) and self.target.exists(self.kind.head):
            recorded = self.kind.recorded(self.target)
        same_size = [item for item in plan.items if there.get(item.name) == item.size_bytes]
        equal = {item for item in same_size if item.sha256 == recorded.get(item.name)}
        unknown = [item for item in same_size if item not in equal]
        with self.progress("comparing", sum(item.size_bytes for item in unknown), "B") as step:
            for item, same in self._at_once(self._is_equal, unknown, step):
                if same:
                    equal.add(item)
        differing = [item for item in plan.items if item not in equal]
        replaced = [item.name for item in differing if item.name in there and item in plan.data]
        if replaced and self.kind.immutable:
            raise StoreError(
                f"{self.target.describe(replaced[0])} has other bytes than "
                f"{self.source.describe(replaced[0])}, and such objects never change: one of the "
                "two is damaged (tools.verify shows which), or the copy was built on. Delete the "
                "wrong one, or give a new folder"
            )
        return differing

    def _is_equal(self, item: Item) -> bool:
        """Compares the bytes of two objects of the same size."""
        if item.sha256 and not is_remote(self.target.url):
            return digest(self.target.get(item.name)) == item.sha256
        data = self._read(item)
        return self.target.holds(item.name, data)

    def _copy(
        self, plan: SyncPlan, differing: list[Item], there: dict[str, int], doomed: list[str]
    ) -> None:
        """New data; then, without a head, all that is seen; then the head."""
        self.target.put(MARKER, json.dumps({"identity": plan.identity}).encode())
        new = [item for item in differing if item in plan.data and item.name not in there]
        rest = [item for item in differing if item not in new and item != plan.head]
        with self.progress("copying", sum(item.size_bytes for item in differing), "B") as step:
            for _ in self._at_once(partial(self._copy_item, put=self.target.put_new), new, step):
                pass
            if rest or doomed or plan.head in differing:
                self.target.delete(self.kind.head)
            for item in rest:
                self._copy_item(item, put=self.target.put)
                step(item.size_bytes)
            for name in doomed:
                self.target.delete(name)
            self._copy_item(plan.head, put=self.target.put)
        self.target.delete(MARKER)

    def _copy_item(self, item: Item, *, put: Callable[[str, bytes], None]) -> None:
        data = self._read(item)
        put(item.name, data)
        if not self.target.holds(item.name, data):
            raise StoreError(
                f"{self.target.describe(item.name)} came out with other bytes than were put: run "
                "it again"
            )

    def _read(self, item: Item) -> bytes:
        """An object of the source; DamageError where it stays other than it should be."""
        data, is_valid = POLICY.read_valid(
            lambda: self.source.get(item.name), lambda data: not self._problem(item, data)
        )
        if not is_valid:
            raise DamageError(
                f"{self.source.describe(item.name)} {self._problem(item, data)}: nothing of it was "
                "copied; tools.verify says more"
            )
        return data

    def _problem(self, item: Item, data: bytes) -> str:
        if len(data) != item.size_bytes:
            return f"has {len(data):,} bytes where {item.size_bytes:,} were expected"
        if item.sha256:
            return "" if digest(data) == item.sha256 else "differs from its sha256"
        try:
            self.kind.check(item.name, data)
        except DamageError as error:
            return f"is damaged ({error})"
        return ""

    def _at_once(
        self, work: Callable[[Item], "bool | None"], items: Sequence[Item], step: Step
    ) -> "Iterable[tuple[Item, bool | None]]":
        """Does work for each item, several at once; yields them in order. Stops at an error."""
        threads = ThreadPoolExecutor(self.config.in_flight)
        try:
            for item, result in zip(items, threads.map(work, items), strict=True):
                step(item.size_bytes)
                yield item, result
        finally:
            threads.shutdown(cancel_futures=True)


def check_apart(source: str, target: str) -> None:
    """Raises ConfigError where one folder of this machine is in the other, or is it."""
    if is_remote(source) or is_remote(target):
        return
    paths = [local_path(url).resolve() for url in (source, target)]
    if paths[0].is_relative_to(paths[1]) or paths[1].is_relative_to(paths[0]):
        raise ConfigError(f"{source} and {target} contain each other: give a folder apart")
