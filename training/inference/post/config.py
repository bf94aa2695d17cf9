"""Config of what is done to predictions before outputs are made of them.

`post` and `calibration` are keys outside sections, so a command inherits `PostSections`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.options import option
from training.inference.post.blend import BlendConfig
from training.inference.post.chain import STEPS, parse_steps


@dataclass(frozen=True, kw_only=True)
class PostSections:
    """A command that blends, calibrates and post-processes; in this order."""

    blend: BlendConfig = field(default_factory=BlendConfig)
    calibration: str = option("", "csv of tools.calibrate; applied to the blend, before `post`")
    post: list[Any] | None = field(
        default=None,
        metadata={
            "help": "steps in order, as in [{smooth: {kernel: [.2,.6,.2]}}, {file_top: {k: 2}}]: "
            f"{', '.join(STEPS)}; null: those that an exported file brings along, if any"
        },
    )

    def __post_init__(self) -> None:
        parse_steps(self.post or [])

    def steps(self) -> Sequence[Any]:
        """All steps after blending, calibration as the first."""
        first = [{"calibrate": {"csv": self.calibration}}] if self.calibration else []
        return [*first, *(self.post or [])]
