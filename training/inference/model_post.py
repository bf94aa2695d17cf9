"""Steps of post-processing that models bring along, in the metadata of an ONNX file.

They are applied where `post` is not given. A file may be anybody's: its steps are read as those of
a config are, and none of them may name another file.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from storage.errors import ConfigError
from training.inference.members import Member
from training.inference.post.chain import parse_steps
from training.inference.post.config import PostSections

ABOUT = "post"  # entry of predict.json's `about`
logger = logging.getLogger(__name__)
Sections = TypeVar("Sections", bound=PostSections)


def post_of_models(members: Sequence[Member]) -> list[Any] | None:
    """The steps that all models bring along; None where they differ."""
    first = members[0].post
    return first if all(member.post == first for member in members) else None


def with_post_of_models(config: Sections, about: Mapping[str, Any]) -> Sections:
    """The config of a run with the steps of its models, where it has none of its own.

    Raises ConfigError where those are unknown, or name files.
    """
    if config.post is not None:
        return config
    entries = about.get(ABOUT) or []
    hint = "give steps as post=[...], or post=[] for none"
    try:
        steps = parse_steps(entries)
    except ConfigError as error:
        raise ConfigError(f"in the metadata of the model: {error}; {hint}") from error
    if any(getattr(step, "csv", "") for step in steps):
        raise ConfigError(
            "the steps of post-processing in the metadata of the model read a csv, which is no "
            f"part of it: {hint}"
        )
    return replace(config, post=entries)


def announce_post(config: PostSections, about: Mapping[str, Any]) -> None:
    """Says in a line which steps come from the models, or that they differ."""
    if config.post is not None:
        return
    entries = about.get(ABOUT, [])
    if entries is None:
        logger.info("the models bring different steps of post-processing: none apply; see post=")
    elif entries:
        names = (entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)
        logger.info(f"post-processing of the model: {', '.join(names)}; post=[] turns it off")
