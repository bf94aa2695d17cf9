"""Files that a command writes: whole, or not at all."""

from pathlib import Path

import pytest
from polars.exceptions import ComputeError

from storage.errors import ConfigError, StoreError
from storage.output_files import output_file
from tools.cli.output_files import check_output, make_folder


def test_a_file_appears_whole_in_place_of_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.csv"
    for text in ("a", "b"):
        with output_file(target) as file:
            file.write_text(text)
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


FULL = OSError(28, "No space left on device")
POLARS = ComputeError("parquet: underlying IO error: No space left on device (os error 28)")


@pytest.mark.parametrize("error", [FULL, POLARS, ValueError("mine"), ComputeError("mine")])
def test_what_fails_leaves_the_older_file(tmp_path: Path, error: Exception) -> None:
    target = tmp_path / "table.csv"
    target.write_text("older")
    wanted = StoreError if "No space" in str(error) else type(error)

    def write() -> None:
        with output_file(target) as file:
            file.write_text("half")
            raise error

    with pytest.raises(wanted, match=r"No space left on device|mine"):
        write()
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_path_that_can_be_no_file_is_told_before_the_work(tmp_path: Path) -> None:
    check_output("--png", None)
    check_output("--png", str(tmp_path / "new" / "sheet.png"))
    assert (tmp_path / "new").is_dir()
    with pytest.raises(ConfigError, match=r"--png .* is a folder"):
        check_output("--png", str(tmp_path))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"--folder: the folder .* cannot be made"):
        make_folder("--folder", tmp_path / "file" / "below")
