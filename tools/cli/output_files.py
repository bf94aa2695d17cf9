"""Files that a command was asked to write: checked before the work."""

from pathlib import Path

from storage.errors import ConfigError

MAX_PANELS = 64  # of a contact sheet


def check_output(flag: str, target: str | None) -> None:
    """Raises ConfigError where there can be no such file, and makes its folder.

    Asked before long work, so that a mistyped path costs nothing.
    """
    if target is None:
        return
    if Path(target).is_dir():
        raise ConfigError(f"{flag} {target} is a folder; give the path of a file")
    make_folder(flag, Path(target).parent)


def make_folder(flag: str, folder: Path) -> None:
    """Makes a folder if there is none; raises ConfigError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{flag}: the folder {folder} cannot be made ({error.strerror}); give another path"
        ) from error
