"""Config sections and the build that commands which make a store share."""

import sys
from dataclasses import dataclass, field

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from tools.cli.command import NOTHING_STORED
from tools.cli.config import LimitSection, StoreSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class BuildSections(LimitSection, StoreSection):
    """Config sections of this command."""

    source: SourceConfig = field(default_factory=SourceConfig)
    recipe: Recipe = field(default_factory=Recipe)
    build: BuildConfig = field(default_factory=BuildConfig)


def build(config: BuildSections, recipe: Recipe) -> int:
    """Builds slices of a recipe, prints a summary; returns the exit code."""
    about = (config.source, recipe, config.store, config.build)
    report = build_store(*about, limit=config.limit, progress=bar, remote=config.remote)
    print(report.summary())
    if report.holds_nothing:
        print("error: not one recording could be stored: see the reasons above", file=sys.stderr)
        return NOTHING_STORED
    problems = len(report.rejects) + len(report.disputed)
    if config.build.strict and problems:
        print(f"error: build.strict and {problems} problems", file=sys.stderr)
        return 1
    return 0
