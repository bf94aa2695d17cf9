"""Builds a store from a source, or brings an existing one up to date. Safe to kill at any time.

    report = build_store(SourceConfig(root="data"), Recipe(), "data/store", BuildConfig())

Rounds of: what is wanted and not yet committed -> a plan, written down -> parts, built by worker
processes, each committed by its index file. A killed build goes on with the plan that it finds.
Several builders on different machines may each take a share of the plan (`build.part`).
"""

import time

from storage.build.config import BuildConfig
from storage.build.report import BuildReport, BuildResult, report_build
from storage.build.rounds import open_build
from storage.build.shares import build_share
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.lock import builder_lock
from storage.progress import Progress, silent
from storage.recipe import Recipe
from storage.source.table import SourceConfig


def build_store(
    source_config: SourceConfig,
    recipe: Recipe,
    url: str,
    config: BuildConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> BuildReport:
    """Builds or updates the store at `url`; `limit` takes a spread of that many recordings."""
    began = time.monotonic()
    build = open_build(
        source_config, recipe, url, config, limit=limit, progress=progress, remote=remote
    )
    if config.share is not None:
        result = build_share(build, config.share)
    else:
        with builder_lock(build.objects):
            build.objects.clear_temporary()
            num_dropped = build.begin()
            result = BuildResult(build.run(), num_dropped, 0, is_closed=True)
            build.objects.clear_temporary()  # of workers that were killed meanwhile
    return report_build(
        build.source,
        build.wanted,
        build.state,
        url=url,
        result=result,
        share=config.share,
        wall_s=time.monotonic() - began,
    )
