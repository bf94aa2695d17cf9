"""Arguments, help, one-line errors and exit codes, shared by all commands.

0: done. 1: it failed, or found what it was asked to look for (`verify`, `strict`). 2: a wrong
call. 3: a build in which nothing at all could be stored. 130: stopped by Ctrl-C, 143 by SIGTERM,
129 by SIGHUP; what was committed stays.
"""

import argparse
import errno
import io
import logging
import os
import select
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, NoReturn

from storage.errors import ConfigError, MelbankError
from tools.cli.config import DEFAULT_CONFIG, SECTIONS, ConfigKey, Section, config_keys, load_config
from tools.cli.stopping import Stopped, ending_at_once, exit_code, forget_interrupt, stopping
from tools.cli.terminal import terminal_width

NOTHING_STORED = 3
KEY_WIDTH = 36  # of `key=default` in a help
LAYERS = ("storage", "datasets", "training")
Arguments = argparse.Namespace
Flag = tuple[str, dict[str, Any]]  # a name, and what argparse is told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[Section]):
    """A command: its module docstring, its config sections as a dataclass, and its own flags."""

    doc: str
    sections: type[Section]
    flags: tuple[Flag, ...] = ()
    config: str = DEFAULT_CONFIG


def run(
    command: Command[Section],
    main: Callable[[Section, Arguments], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parses the command line, runs `main`, and turns errors into one line and an exit code."""
    _print_logged()
    arguments = _parser(command).parse_intermixed_args(argv)
    try:
        with stopping():
            config = load_config(command.sections, arguments.config, arguments.overrides)
            return main(config, arguments) or 0
    except KeyboardInterrupt as stop:
        forget_interrupt()
        by = f" by {stop}" if isinstance(stop, Stopped) else ""
        with suppress(OSError):  # its terminal may have gone
            print(f"\nstopped{by}; what is committed stays", file=sys.stderr)
        return exit_code(stop)
    except MelbankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:  # the machine's own word: no space, no rights, no such folder
        if isinstance(error, BrokenPipeError) and _has_lost_its_reader():
            return 0
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = ": free space, then run it again; a training goes on with --resume" if full else ""
        print(f"error: {where}{error.strerror or error}{advice}", file=sys.stderr)
        return 1


def _has_lost_its_reader() -> bool:
    """True where the reader of our output has gone, as in `| head`: the rest is not written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(io.UnsupportedOperation):  # it is no file
            output = select.poll()
            output.register(stream.fileno(), 0)  # errors alone
            if output.poll(0):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                return True
    return False


@contextmanager
def importing(what: str) -> Iterator[None]:
    """Says what is imported in the block, which takes seconds; Ctrl-C ends the process at once."""
    print(f"{what}: importing torch takes some seconds", file=sys.stderr, flush=True)
    with ending_at_once():
        yield


class _Printed(logging.Handler):
    """Prints messages as they are on what is standard output at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage())


def _print_logged() -> None:
    """Prints what the layers below log, from INFO on; other libraries log as they do."""
    for name in LAYERS:
        layer = logging.getLogger(name)
        if not layer.handlers:
            layer.addHandler(_Printed())
        layer.setLevel(logging.INFO)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see --help\n")


def _parser(command: Command[Section]) -> argparse.ArgumentParser:
    width = terminal_width()
    parser = _Parser(
        prog=_called_as(),
        description=_fit(command.doc, width),
        epilog=_keys(command.sections, width),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", default=command.config, metavar="FILE", help="YAML file (default: %(default)s)"
    )
    for flag, options in command.flags:
        parser.add_argument(flag, **options)
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="config keys in dot notation, see below",
    )
    return parser


def _called_as() -> str | None:
    """Returns the call of this program, for `usage`: python -m tools.train."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec else None


def _fit(doc: str, width: int) -> str:
    """The text of a docstring in lines of `width` at most; longer examples go on after a `\\`."""
    parts = []
    for paragraph in doc.strip().split("\n\n"):
        if paragraph.startswith("    "):
            lines = paragraph.replace(" \\\n", " ").splitlines()
            parts.append("\n".join(_fit_example(line, width) for line in lines))
        else:
            parts.append(textwrap.fill(" ".join(paragraph.split()), width))
    return "\n\n".join(parts)


def _fit_example(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    if not line.lstrip().startswith("python "):
        return line
    line = f"{indent}{' '.join(line.split())}" if "#" not in line else line
    pieces = textwrap.wrap(
        line.strip(),
        width - len(indent) - 4 - 2,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f" \\\n{indent}    ".join([indent + pieces[0], *pieces[1:]])


def _keys(sections: type[Any], width: int) -> str:
    """Lists the config keys of a command with their built-in defaults and units.

    Keys outside sections come first, the access to object stores last.
    """
    keys = sorted(config_keys(sections), key=_rank)
    lines = ["config keys and built-in defaults (the YAML file may set others):"]
    for key in keys:
        name = f"  {key.name}={key.default}"
        head = name.ljust(KEY_WIDTH)
        if len(name) >= KEY_WIDTH:  # the meaning begins in the next line
            lines.append(name)
            head = " " * KEY_WIDTH
        below = " " * KEY_WIDTH
        lines += textwrap.wrap(key.meaning, width, initial_indent=head, subsequent_indent=below)
    return "\n".join(lines)


def _rank(key: ConfigKey) -> int:
    """Keys outside sections by their place in SECTIONS, then those of sections, then `remote`."""
    section, dot, _ = key.name.partition(".")
    if not dot:
        return SECTIONS.index(section)
    return len(SECTIONS) + int(section == "remote")
