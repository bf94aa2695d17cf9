"""Write docs/configuration.md: every config key of every command, with default and meaning.

    python -m tools.write_docs

The table comes from the config dataclasses, as `--help` does; `make docs` runs this.
"""

import importlib
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

import tools
from tools.cli.command import Arguments, Command, run
from tools.cli.config import SECTIONS, ConfigKey, config_keys, show_value

DOCUMENT = Path("docs/configuration.md")
INTRODUCTION = """# Configuration

Every key can be set in the YAML file that `--config` names, and on the command line as `key=value`,
which takes precedence: `python -m tools.train store=data/store trainer.epochs=5`. A command reads
only the sections that it uses. The tables list the built-in default of each key and the value that
`{file}` sets, if any. `NAME` is a name of your choice; units are in the meaning.

`make docs` generates this file from the config classes: change the texts there.
"""


@dataclass(frozen=True, kw_only=True)
class Sections:
    """No config section: this command describes those of the others."""


COMMAND = Command(doc=__doc__, sections=Sections)


def main(_: Sections, arguments: Arguments) -> None:
    """Writes the document."""
    DOCUMENT.write_text(render(arguments.config), encoding="utf-8")
    print(f"{DOCUMENT} written")


def render(config_file: str) -> str:
    """Returns the document as Markdown: keys outside sections first, then one table a section."""
    commands = commands_of_keys()
    by_section: dict[str, list[ConfigKey]] = defaultdict(list)
    for key in commands:
        section, dot, _ = key.name.partition(".")
        by_section[section if dot else ""].append(key)
    parts = [INTRODUCTION.format(file=config_file)]
    for section in ("", *(name for name in SECTIONS if name in by_section)):
        keys = by_section[section]
        users = sorted({name for key in keys for name in commands[key]})
        title = f"`{section}`" if section else "Keys outside sections"
        parts.append(f"## {title}\n\nUsed by {', '.join(f'`{name}`' for name in users)}.\n")
        parts.append(_table(keys, config_file, commands if not section else {}))
    return "\n".join(parts)


def commands_of_keys() -> dict[ConfigKey, list[str]]:
    """Returns all config keys and the names of the commands that use each."""
    commands: dict[ConfigKey, list[str]] = defaultdict(list)
    for module in pkgutil.iter_modules(tools.__path__):
        command = getattr(importlib.import_module(f"tools.{module.name}"), "COMMAND", None)
        for key in config_keys(command.sections) if command else ():
            commands[key].append(module.name)
    return commands


def _table(
    keys: Sequence[ConfigKey], config_file: str, commands: Mapping[ConfigKey, Sequence[str]]
) -> str:
    """Returns a Markdown table; `commands` adds the users of a key, where these differ."""
    given = OmegaConf.load(config_file)
    values = [None if "[]" in key.name else OmegaConf.select(given, key.name) for key in keys]
    with_file = any(value is not None for value in values)
    rows = [["key", "default", *([f"`{config_file}`"] if with_file else []), "meaning"]]
    rows.append(["---"] * len(rows[0]))
    for key, value in zip(keys, values, strict=True):
        row = [f"`{key.name}`", f"`{key.default}`" if key.default else "empty"]
        if with_file:
            row.append("" if value is None else f"`{show_value(value)}`")
        users = f" ({', '.join(commands[key])})" if key in commands else ""
        rows.append([*row, (key.meaning + users).replace("|", "\\|")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
