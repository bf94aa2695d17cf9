"""Configs of the commands: one YAML file with all sections, of which each command uses its own.

A command states its sections as a frozen dataclass; the section classes live next to the code that
they configure. The YAML file and `key=value` words from the command line are merged onto it; a key
that no section has is an error with a hint.
"""

import difflib
import keyword
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.objects.urls import check_bare, check_no_credentials
from storage.options import check_at_least, option
from tools.cli.checkout import ROOT

DEFAULT_CONFIG = "configs/base.yaml"
SECTIONS = (
    "source",
    "recipe",
    "store",
    "shards",
    "sources",
    "background",
    "chunk",
    "limit",
    "seed",
    "build",
    "write_shards",
    "index_shards",
    "sampling",
    "folds",
    "labels",
    "train_folds",
    "train_loader",
    "val_loader",
    "augment",
    "model",
    "loss",
    "teacher",
    "optimizer",
    "averaging",
    "refit",
    "trainer",
    "experiment",
    "predict",
    "pseudo",
    "blend",
    "calibration",
    "post",
    "detect",
    "output",
    "recorder",
    "evaluate",
    "calibrate",
    "demo",
    "mix",
    "benchmark",
    "ablation",
    "export",
    "embed",
    "probe",
    "similar",
    "query",
    "explore",
    "reviews",
    "report",
    "voice",
    "export_npy",
    "sync",
    "remote",
)
SHORT_KEYS = {"executor": "build.executor"}  # on the command line

_URL = re.compile(r"^\w+://\S+$")
_NO_VALUE = re.compile(r"Incompatible value 'None' for field of type '(\w+)'")  # by OmegaConf

Section = TypeVar("Section")


@dataclass(frozen=True, kw_only=True)
class RemoteSection:
    """A command that may reach object stores."""

    remote: RemoteConfig = field(default_factory=RemoteConfig)


@dataclass(frozen=True, kw_only=True)
class StoreSection(RemoteSection):
    """A command that uses a store."""

    store: str = option("data/store", "folder of the store, or its URL: s3://bucket/store")


@dataclass(frozen=True, kw_only=True)
class ShardsSection(RemoteSection):
    """A command that uses tar shards."""

    shards: str = option("data/shards", "folder of the tar shards, or its URL: s3://bucket/shards")


@dataclass(frozen=True, kw_only=True)
class LimitSection:
    """A command that can take a part, for a first look."""

    limit: int | None = option(None, "number of recordings, spread over all, for a first look")

    def __post_init__(self) -> None:
        check_at_least(self, "", 1, "limit")


class ConfigKey(NamedTuple):
    """One key of a command's config, as `--help` and docs/configuration.md list it."""

    # in dot notation; NAME where the user chooses the name, as in sources.NAME.store, and [] for
    # the entries of a list, as in sampling.inject[].source
    name: str
    default: str
    meaning: str


def config_keys(sections: type[Any], prefix: str = "") -> Iterator[ConfigKey]:
    """Yields all keys of a dataclass of sections, in the order of their fields."""
    kinds = typing.get_type_hints(sections)
    for entry in fields(sections):
        name = prefix + key_name(entry.name)
        values = typing.get_args(kinds[entry.name])[1:]  # of sections by name, such as sources
        if values and is_dataclass(values[0]):
            yield from config_keys(typing.cast("type[Any]", values[0]), f"{name}.NAME.")
        elif is_dataclass(kinds[entry.name]):
            yield from config_keys(kinds[entry.name], f"{name}.")
        else:
            entries = typing.get_args(kinds[entry.name])[:1]
            default = entry.default
            if default is MISSING:
                default = entry.default_factory() if entry.default_factory is not MISSING else "?"
            yield ConfigKey(name, show_value(default), entry.metadata.get("help", ""))
            if entries and is_dataclass(entries[0]):  # keys of each entry of a list
                yield from config_keys(typing.cast("type[Any]", entries[0]), f"{name}[].")


def key_name(field_name: str) -> str:
    """The config key of a field; those that Python keeps for itself have an underscore: `from_`."""
    shorter = field_name.removesuffix("_")
    return shorter if keyword.iskeyword(shorter) else field_name


def _to_fields(values: Any, kind: Any) -> Any:
    """The values of a config with the names of fields as keys, where these differ: `from_`."""
    if not isinstance(values, dict) or not is_dataclass(kind):
        return values
    kinds = typing.get_type_hints(kind)
    names = {key_name(name): name for name in kinds}
    found = ((names.get(str(key), str(key)), value) for key, value in values.items())
    return {name: _to_fields(value, kinds.get(name)) for name, value in found}


def _shown_key(path: str) -> str:
    """A key in dot notation, as users write it, from the path of its fields."""
    return ".".join(map(key_name, path.split(".")))


def show_value(value: Any) -> str:
    """Returns a config value as it is written in YAML and after `key=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def load_config(sections: type[Section], file: str, overrides: Sequence[str] = ()) -> Section:
    """The command's sections from a YAML file and `a.b=value` words; ConfigError with a hint."""
    used = {entry.name for entry in fields(sections)}  # type: ignore[arg-type]  # a dataclass
    for word in overrides:
        _check_secrets(word.partition("=")[2])
    given = _read_yaml(file, sections)
    given.merge_with(_read_words(overrides, used, sections))
    _check_secrets(OmegaConf.to_container(given))
    check_no_credentials(given.get("remote") or {})
    unknown = [str(name) for name in given if name not in (*SECTIONS, *used)]
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such section{_hint(unknown[0], SECTIONS, sections)}")
    _check_sections(given, sections)
    base = OmegaConf.structured(sections)
    _unlock(base)
    mine = OmegaConf.masked_copy(given, [name for name in given if name in used])
    mine = OmegaConf.create(_to_fields(OmegaConf.to_container(mine), sections))
    _add_entries(base, mine, sections)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(base, mine))
    except ConfigKeyError as error:
        name = str(error.full_key or "")
        owner, dot, _ = name.rpartition(".")
        keys = OmegaConf.select(base, owner) if dot else base
        known = [f"{owner}{dot}{key_name(str(key))}" for key in keys or ()]
        raise ConfigError(f"{name}: no such key{_hint(name, known, sections)}") from error
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(_one_line(error)) from error
    if not isinstance(config, sections):
        raise ConfigError(f"--config {file} is not a mapping of sections")
    return config


def _check_secrets(value: Any) -> None:
    """Raises ConfigError on URLs with credentials, before any message or record shows them."""
    if isinstance(value, dict):
        for entry in value.values():
            _check_secrets(entry)
    elif isinstance(value, str) and _URL.match(value):
        check_bare(value)


def _read_yaml(file: str, sections: type[Any]) -> DictConfig:
    path = Path(file) if Path(file).is_file() else ROOT / file  # from any folder
    if not path.is_file():
        raise ConfigError(f"--config {file}: there is no such file here, nor in {ROOT}")
    try:
        loaded = OmegaConf.load(path)
        raw = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # makes texts alone
    except RecursionError as error:
        raise ConfigError(f"--config {file} is not readable YAML: it nests too deep") from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is not readable YAML: {_one_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"--config {file} is not a mapping of sections")
    _keep_texts(loaded, raw, sections)
    return loaded


def _read_words(overrides: Sequence[str], used: set[str], sections: type[Any]) -> DictConfig:
    """The words of a command line; text keys take theirs as typed, such as store=0106."""
    words, texts = [], {}
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{word!r} is not key=value, as in store=data/store; see --help")
        key = SHORT_KEYS.get(key, key)
        kind = _text_kind(sections, key) if value else None
        words.append(f"{key}={value if kind is None else 'text'}")  # sources keep their order
        if kind is not None:
            texts[key] = as_typed(value, kind)
        section = key.split(".")[0]
        if section in SECTIONS and section not in used:
            hint = _hint(key, (), sections)
            raise ConfigError(f"{key}: this command does not use the section {section}{hint}")
    try:
        read = OmegaConf.from_dotlist(words)
        for key, text in texts.items():
            OmegaConf.update(read, key, text, force_add=True)
        return read
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(overrides)}: {_one_line(error)}") from error


def _text_kind(sections: type[Any], key: str) -> Any:
    """The type of a key that takes text: str, str | None or list[str]; None for all others."""
    kind: Any = sections
    for name in key.split("."):
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        elif isinstance(kind, type) and is_dataclass(kind):
            kinds = typing.get_type_hints(kind)
            kind = next((kinds[field] for field in kinds if key_name(field) == name), None)
        else:
            return None
    return kind if kind in (str, str | None, list[str]) else None


def as_typed(value: str, kind: Any = str) -> Any:
    """A value of a text key: as it is typed, less quotes around it; numbers and `no` are text."""
    if kind == str | None and value in ("null", "~"):
        return None
    if kind == list[str]:
        try:  # BaseLoader makes texts and lists of texts alone
            entries = yaml.load(value, yaml.BaseLoader) if value.startswith("[") else [value]
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{value[:80]} is no list: one is written [robin,wren]") from error
        return entries if isinstance(entries, list) else [value]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        try:
            unquoted = yaml.safe_load(value)
        except yaml.YAMLError:  # a name with quotes in it
            return value
        return unquoted if isinstance(unquoted, str) else value
    return value


def _keep_texts(loaded: DictConfig, raw: Any, sections: type[Any], prefix: str = "") -> None:
    """Gives text keys of a YAML file what is written there, where YAML reads 0106 or no."""
    if not isinstance(raw, dict):
        return
    for name, value in raw.items():
        key = f"{prefix}{name}"
        read = OmegaConf.select(loaded, key)
        if isinstance(value, dict):
            _keep_texts(loaded, value, sections, f"{key}.")
            continue
        is_changed = isinstance(value, str) and read is not None and not isinstance(read, str)
        if is_changed and _text_kind(sections, key) in (str, str | None):
            OmegaConf.update(loaded, key, value)


def _check_sections(given: DictConfig, sections: type[Any]) -> None:
    """Raises ConfigError where a section was given a single value, or none."""
    for name, kind in typing.get_type_hints(sections).items():
        if is_dataclass(kind) and name in given and not isinstance(given[name], DictConfig):
            raise ConfigError(
                f"{name} is a section: give its keys, as {name}.KEY=VALUE or below it in the file, "
                "or leave it out"
            )


def _unlock(node: Any) -> None:
    """Frozen classes become read-only configs; merging has to write to them."""
    if isinstance(node, DictConfig):
        OmegaConf.set_readonly(node, False)
        if not node._is_none():
            for key in node:
                _unlock(node._get_node(key))


def _add_entries(base: DictConfig, given: DictConfig, sections: type[Any]) -> None:
    """Makes the entries of sections by name, such as sources; merging would make them read-only."""
    for name, kind in typing.get_type_hints(sections).items():
        entry = typing.get_args(kind)[1] if typing.get_origin(kind) is dict else None
        if is_dataclass(entry) and isinstance(given.get(name), DictConfig):
            for key in given[name]:
                base[name][key] = entry
                _unlock(base[name][key])


def _hint(name: str, known: Iterable[str], sections: type[Any]) -> str:
    """The key that was meant: one of `known`, or one of the command that ends like it."""
    word = name.rpartition(".")[2]
    chosen = ("NAME", "[]")  # no keys as they stand
    keys = [
        key.name for key in config_keys(sections) if not any(word in key.name for word in chosen)
    ]
    by_word = {key.rpartition(".")[2]: key for key in known}
    close = (
        [by_word[end] for end in difflib.get_close_matches(word, by_word, n=1, cutoff=0.85)]
        or [key for key in keys if key.rpartition(".")[2] == word]
        or [key for end, key in by_word.items() if end.startswith(f"{word}_")]
        or [by_word[end] for end in difflib.get_close_matches(word, by_word, n=1, cutoff=0.5)]
    )
    return f". Did you mean {close[0]}?" if close else "; see --help"


def _one_line(error: Exception) -> str:
    """An error's message without the bookkeeping below it, in words for who wrote the value."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line for line in lines if line.startswith("full_key:")), "")
    first = lines[0] if lines else repr(error)
    name = _shown_key(key.removeprefix("full_key:").strip())
    if "is not a ListConfig" in first and name.isdigit():  # a place in a list has no longer name
        return "a list of lists is wanted, such as [[4,1],[2,2]]; [[4,1]] is one of a single list"
    if "is not a ListConfig" in first:
        return f"{name} takes a list, such as {name}=[0,1]"
    if found := _NO_VALUE.search(first):
        return f"{name} was given no value; it takes one of type {found[1]}"
    return f"{name}: {first}" if name and name not in first else first
