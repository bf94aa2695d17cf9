"""Results as text, and as sections of a Markdown file with the command and the machine."""

import datetime
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.errors import ConfigError
from storage.output_files import output_file
from storage.processes import num_cores
from tools.cli.command import Arguments, Flag
from tools.cli.config import DEFAULT_CONFIG

PACKAGES = ("numpy", "torch", "librosa", "soundfile", "polars", "zarr", "numcodecs", "h5py")
HEAD = "# Benchmarks\n\nMade by `python -m tools.benchmark`; each section names its command.\n"

MARKDOWN: Flag = (
    "--markdown",
    {"metavar": "FILE", "help": "write the result into its section of FILE"},
)
PLOT: Flag = ("--plot", {"action": "store_true", "help": "write a chart into docs/"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as text; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Aligned, for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """As Markdown."""
        rule = ("---", *["---:"] * (len(self.columns) - 1))
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.columns, rule, *self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Section of a report; `name` identifies it in the Markdown file."""

    name: str
    title: str
    parts: tuple[Table | str, ...]

    def text(self) -> str:
        """For a terminal."""
        return "\n\n".join(part if isinstance(part, str) else part.text() for part in self.parts)

    def markdown(self, command: Sequence[str], module: str) -> str:
        """As Markdown, with where it comes from."""
        parts = [part if isinstance(part, str) else part.markdown() for part in self.parts]
        made = f"    {shlex.join(['python', '-m', module, *command])}"
        where = f"{datetime.date.today().isoformat()}, {machine()}; {versions()}."
        return "\n\n".join([f"## {self.title}", made, where, *parts])


def publish(section: Section, name: str, arguments: Arguments) -> None:
    """Prints the result of a benchmark, and writes it where `--markdown` asks."""
    print(section.text())
    if arguments.markdown:
        write_section(Path(arguments.markdown), section, _command_words(name, arguments))


def write_section(
    file: Path, section: Section, command: Sequence[str], module: str = "tools.benchmark"
) -> None:
    """Puts a section into a Markdown file, in the place of an older one of its name."""
    begin, end = f"<!-- begin {section.name} -->", f"<!-- end {section.name} -->"
    block = f"{begin}\n{section.markdown(command, module)}\n{end}"
    text = file.read_text(encoding="utf-8") if file.exists() else HEAD
    before, is_there, after = text.partition(begin)
    if is_there:
        _, is_closed, after = after.partition(end)
        if not is_closed:
            raise ConfigError(f"{file} has {begin!r} without {end!r}: correct it by hand")
        text = f"{before}{block}{after}"
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    with output_file(file) as unfinished:  # the document is the user's: whole or as it was
        unfinished.write_text(text, encoding="utf-8")


def _command_words(name: str, arguments: Arguments) -> list[str]:
    """The words after `python -m tools.benchmark` that give this result again."""
    words = [name]
    if arguments.config != DEFAULT_CONFIG:
        words += ["--config", arguments.config]
    words += arguments.overrides
    if getattr(arguments, "plot", False):
        words.append("--plot")
    return [*words, "--markdown", arguments.markdown]


def machine() -> str:
    """Cores, processor, memory and system, in words."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{num_cores()} cores of {_processor()}, {memory_gib:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def versions() -> str:
    """The versions of the packages that matter here, those that are installed."""
    found = []
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, named), platform.processor() or platform.machine())
