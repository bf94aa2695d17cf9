"""Builds one share of a store, next to builders of the other shares that it never talks to.

    python -m tools.build_store build.part=3/16 ...

All of them find the same source, and so the same plan, which the first one writes down. Each
builds every n-th part of it. The builder that finds all parts committed is the last one: it builds
what has not fitted, and closes the store. The bytes are those of one builder. A share may be built
by two at once, be killed, and be built again: what is committed is created, never overwritten.
"""

from contextlib import suppress

import polars as pl

from storage.build.report import BuildResult
from storage.build.rounds import Build, known_catalog
from storage.errors import DamageError, ObjectMissingError
from storage.format.catalog import Catalog
from storage.format.manifest import NAME as MANIFEST
from storage.format.tables import INDEX, PLANS, read_table, read_tables, table_numbers
from storage.objects.lock import last_lock, share_lock
from storage.objects.protocol import Objects
from storage.objects.retry import POLICY
from storage.share import Share

KEYS = ["recording_id", "filename", "content_hash"]


def build_share(build: Build, share: Share) -> BuildResult:
    """Builds the parts of a share, and closes the store if no others are left."""
    with share_lock(build.objects):
        num_dropped = build.check_store() if build.objects.exists(MANIFEST) else 0
        new_slices = _build_planned(build, share)
    with last_lock(build.objects) as is_last:
        num_left = len(_open_parts(build))
        if num_left or not is_last:
            return BuildResult(new_slices, num_dropped, num_left, is_closed=False)
        build.objects.clear_temporary()
        build.catalog = _catalog_of_all(build.objects)
        new_slices += _close(build)
        build.objects.clear_temporary()
    return BuildResult(new_slices, num_dropped, 0, is_closed=True)


def _build_planned(build: Build, share: Share) -> int:
    """Builds every n-th part of the first plan, which is written if there is none; new slices.

    Parts whose place holds other bytes, as of a killed builder on another kind of processor, are
    planned again, at the next free place.
    """
    plan = _first_plan(build)
    if plan is None:
        return 0
    parts = share.of(plan["part"].unique().sort().to_list())
    new_slices = build.build_parts(plan.filter(pl.col("part").is_in(parts)))
    while len(open_parts := set(_open_parts(build)) & set(parts)):
        place = build.next_place()
        mine = plan.filter(pl.col("part").is_in(open_parts))
        pending = build.pending().join(mine, on=KEYS, how="semi", nulls_equal=True)
        build.write_plan(pending, place)
        plans = read_table(build.objects, PLANS, place.plan)
        new_slices += build.build_parts(plans.join(mine, on=KEYS, how="semi", nulls_equal=True))
    return new_slices


def _first_plan(build: Build) -> pl.DataFrame | None:
    """The plan that all shares are of; None where nothing is pending."""
    while True:
        if numbers := table_numbers(build.objects, PLANS):
            with suppress(ObjectMissingError):  # closed by another one meanwhile
                return read_table(build.objects, PLANS, numbers[0])
            continue
        place = build.next_place()
        if not len(pending := build.pending()):
            return None
        build.write_plan(pending, place)


def _open_parts(build: Build) -> list[int]:
    """Parts of all plans that are neither committed nor planned again, with pending recordings."""
    try:
        plans = read_tables(build.objects, PLANS, table_numbers(build.objects, PLANS))
    except ObjectMissingError:  # another one has closed the store
        return []
    left = plans.filter(~pl.col("part").is_in(table_numbers(build.objects, INDEX)))
    if left.is_empty():
        return []
    newest = plans.group_by(KEYS).agg(pl.col("part").max())
    left = left.join(newest, on=[*KEYS, "part"], how="semi", nulls_equal=True)
    left = left.join(build.pending(), on=KEYS, how="semi", nulls_equal=True)
    return left["part"].unique().sort().to_list()


def _close(build: Build) -> int:
    """Builds what has not fitted and closes the store; in a bucket another one may do the same."""
    for _ in range(POLICY.reads):
        with suppress(ObjectMissingError):  # a plan that the other one has deleted
            return build.run()
    return build.run()


def _catalog_of_all(objects: Objects) -> Catalog:
    """The catalogue with all committed parts; DamageError on one that is not what was written.

    In a bucket, another builder that closes the store may be rewriting tables.
    """
    for _ in range(POLICY.reads):
        with suppress(DamageError, ObjectMissingError):
            return known_catalog(objects)
    return known_catalog(objects)
