"""The commands as users type them: exit codes, one-line errors, files that appear."""

import errno
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tools.build_store
import tools.compact
import tools.experiments
import tools.query
import tools.sync
import tools.verify
import tools.write_shards
from tests.help_texts import COMMANDS, help_texts
from tests.paths import ROOT
from tests.sounds import write_source
from tools.cli.command import Command, run
from tools.cli.progress_bars import bar

Call = Callable[..., tuple[int, str, str]]
BASE = str(ROOT / "configs" / "base.yaml")


@dataclass(frozen=True)
class Nothing:
    """No section."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process: (exit code, what it printed, its errors)."""

    def typed(module: object, *words: object) -> tuple[int, str, str]:
        code = run(module.COMMAND, module.main, ["--config", BASE, *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return typed


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(21)
    return write_source(tmp_path_factory.mktemp("source"), [6.0, 3.0, 8.0], rng)


@pytest.fixture
def store(source: Path, tmp_path: Path, call: Call) -> Path:
    words = (f"source.root={source}", f"store={tmp_path / 'store'}", "build.workers=1")
    assert call(tools.build_store, *words)[0] == 0
    return tmp_path / "store"


def test_building_says_what_it_did(source: Path, tmp_path: Path, call: Call) -> None:
    words = (f"source.root={source}", f"store={tmp_path / 'store'}", "build.workers=1")
    code, out, _ = call(tools.build_store, *words, "--dry-run")
    assert code == 0
    assert "3 would be built" in out
    assert not (tmp_path / "store").exists()
    code, out, _ = call(tools.build_store, *words)
    assert code == 0
    assert "3 recordings found = 3 stored + 0 partial + 0 rejected + 0 duplicates" in out
    assert "6 slices" in out


def test_strict_exits_1_with_the_list(source: Path, tmp_path: Path, call: Call) -> None:
    own = tmp_path / "source"
    own.mkdir()
    (own / "train_audio").symlink_to(source / "train_audio")
    csv = (source / "train.csv").read_text() + "spec0,[''],spec0/none.ogg,1,a\n"
    (own / "train.csv").write_text(csv)
    words = (f"source.root={own}", f"store={tmp_path / 'store'}", "build.workers=1")
    code, out, err = call(tools.build_store, *words, "build.strict=true")
    assert code == 1
    assert "spec0/none.ogg: there is no such file" in out
    assert "build.strict" in err


WRONG_CALLS = [
    (("recipe.hopp=3",), "recipe.hopp: no such key. Did you mean recipe.hop?"),
    (("recipe.fmin=3",), "recipe.fmin: no such key. Did you mean recipe.fmin_hz?"),
    (("n_mels=3",), "n_mels: no such section. Did you mean recipe.n_mels?"),
    (("model.n_mels=3",), "not use the section model. Did you mean recipe.n_mels?"),
    (("recip.hop=3",), "recip: no such section. Did you mean recipe?"),
    (("recipe.hop=three",), "recipe.hop"),
    (("recipe.encoding=int8",), "none of uint8, float16, float32"),
    (("recipe.fmax_hz=20000",), "half of recipe.sample_rate_hz"),
    (("model.backbone=resnet50",), "does not use the section model"),
    (("store",), "is not key=value"),
    (("source.root=/nowhere",), "there is no such folder"),
    (("limit=0",), "limit=0 must be at least 1"),
    (("build.workers=0",), "must be at least 1"),
    (("store={here}",), "not empty and not a store"),
    (("store={here}/file.txt",), "is a file; give a folder"),
    (("source.csv=other.csv",), "other.csv is missing"),
    (("source.audio_dir=elsewhere",), "none of 3 recordings can be read"),
    (("source.root={here}/file.txt",), "is a file; give its folder"),
    (("build.max_drop_share=7",), "build.max_drop_share=7 must lie between 0 and 1"),
    (("store=",), "store was given no value"),
    (("store=''",), "the path of a folder is empty"),
    (("store=s3:/bucket/store",), "a URL has two slashes"),
    (("recipe=3",), "recipe is a section: give its keys"),
    (("recipe=null",), "or leave it out"),
    (("build.=3",), "'build.=3' is not key=value"),
    (("=3",), "'=3' is not key=value"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_CALLS, ids=lambda value: str(value)[:40])
def test_a_wrong_call_is_one_line_and_exit_code_2(
    words: tuple[str, ...], message: str, source: Path, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "file.txt").write_text("mine")
    given = [word.replace("{here}", str(tmp_path)) for word in words]
    defaults = [f"source.root={source}", f"store={tmp_path / 'new'}"]
    keys = {word.split("=")[0] for word in given}
    code, _, err = call(
        tools.build_store, *[word for word in defaults if word.split("=")[0] not in keys], *given
    )
    assert code == 2
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: [", "is not readable YAML: expected the node content"),
        ("- a\n- b\n", "is not a mapping of sections"),
        ("recipe:\n  hopp: 3\n", "recipe.hopp: no such key. Did you mean recipe.hop?"),
        ("recipe:\n\thop: 512\n", "in line 2"),
        ("seed: 1\nseed: 2\n", "found duplicate key seed in line 2"),
        ("recipe:\n", "recipe is a section"),
    ],
)
def test_a_config_file_that_is_none_is_one_line(
    text: str, message: str, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    code, _, err = call(tools.build_store, "--config", tmp_path / "bad.yaml")
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_queries_write_what_was_asked_for(store: Path, tmp_path: Path, call: Call) -> None:
    names = {
        ending: tmp_path / f"out/found.{ending}" for ending in ("png", "parquet", "csv", "npy")
    }
    flags = [word for ending, path in names.items() for word in (f"--{ending}", path)]
    sql = "SELECT * FROM slices WHERE slice_no = 0 ORDER BY row"
    code, out, _ = call(tools.query, f"store={store}", "--sql", sql, "--limit", 2, *flags)
    assert code == 0
    assert "spec0/XC0000" in out
    table = pl.read_parquet(names["parquet"])
    assert table["slice_no"].to_list() == [0, 0]
    assert np.load(names["npy"], allow_pickle=False).shape == (2, 128, 313)
    labels = pl.read_csv(names["csv"])["secondary_labels"].to_list()
    assert [label or None for label in labels] == ["spec1", None]
    assert names["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--sql", "SELECT * FROM read_parquet('/etc/x')"), 2, "not what a function returns"),
        (("--sql", "SELECT label FROM slices"), 2, "columns are"),
        (("--sql", "DROP TABLE slices"), 2, "one SELECT"),
        (("--limit", "0"), 2, "at least 1"),
        (("--sql", "SELECT slice_no FROM slices", "--npy", "x.npy"), 2, "need the column `row`"),
        (("--sql", "SELECT row FROM slices WHERE row < 0", "--npy", "x.npy"), 2, "found no slices"),
        (("store=/nowhere",), 2, "is not a melbank store"),
        (("store={store}/melbank.json",), 2, "is a file; give a folder"),
        (("--sql", "SELECT row FROM slices WHERE row = 'a'"), 2, "the query does not work"),
        (("--sql", "SELECT row * 0.5 AS row FROM slices", "--npy", "x.npy"), 2, "whole numbers"),
        (("--sql", "SELECT CAST(row AS VARCHAR) AS row FROM slices", "--png", "x"), 2, "numbers"),
        (("--png", "{store}"), 2, "is a folder; give the path of a file"),
        (("--npy", "{store}/melbank.json/x.npy"), 2, "cannot be made"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_query_is_one_line(
    flags: tuple[str, ...], code: int, message: str, store: Path, call: Call
) -> None:
    flags = tuple(flag.replace("{store}", str(store)) for flag in flags)
    words = flags if flags[0].startswith("store") else (f"store={store}", *flags)
    got, _, err = call(tools.query, *words)
    assert got == code
    assert message in err
    assert err.count("\n") == 1


def test_shards_are_written_and_verified_against_the_store(
    store: Path, tmp_path: Path, call: Call
) -> None:
    shards = tmp_path / "shards"
    code, out, _ = call(tools.write_shards, f"store={store}", f"shards={shards}")
    assert code == 0
    code, out, _ = call(tools.verify, f"store={store}", f"shards={shards}")
    assert code == 0
    assert "6 slices in 1 shards checked: 0 damaged" in out
    tar = shards / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(bytes(data))
    code, out, _ = call(tools.verify, f"store={store}", f"shards={shards}")
    assert code == 1
    assert "shard-000000.tar differs" in out


def test_verify_repairs_and_compact_finds_nothing(store: Path, source: Path, call: Call) -> None:
    shard = store / "slices.zarr/c/0/0/0"
    wanted = shard.read_bytes()
    shard.write_bytes(wanted[:1000])
    assert call(tools.verify, f"store={store}")[0] == 1
    code, out, _ = call(tools.verify, f"store={store}", f"source.root={source}", "--repair")
    assert code == 0
    assert "repaired slices.zarr/c/0/0/0" in out
    assert shard.read_bytes() == wanted
    code, out, _ = call(tools.compact, f"store={store}")
    assert code == 0
    assert "0 objects deleted" in out


@pytest.mark.slow
def test_all_real_recordings_together_add_up(
    real_data: Callable[[str], Path], tmp_path: Path, call: Call
) -> None:
    for name in ("nasty", "esc10", "birds_british"):
        (tmp_path / "all" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "all" / name).symlink_to(real_data(name))
    files = [
        path
        for name in ("nasty", "esc10/train_audio", "birds_british/train_audio")
        for path in sorted((tmp_path / "all" / name).rglob("*"))
        if path.is_file() and path.suffix != ".csv"
    ]
    names = [path.relative_to(tmp_path / "all").as_posix() for path in files]
    labels = [name.split("/")[0] for name in names]
    pl.DataFrame({"filename": names, "primary_label": labels}).write_csv(tmp_path / "train.csv")
    code, out, _ = call(
        tools.build_store,
        f"source.root={tmp_path}",
        "source.audio_dir=all",
        "source.id=filename",
        f"store={tmp_path / 'store'}",
    )
    assert code == 0
    found = re.search(
        r"(\d+) recordings found = (\d+) stored \+ (\d+) partial \+ (\d+) rejected \+ (\d+) dup",
        out,
    )
    assert found
    numbers = [int(number) for number in found.groups()]
    assert numbers[0] == len(files) == sum(numbers[1:])
    assert call(tools.verify, f"store={tmp_path / 'store'}")[0] == 0


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "benchmark"])
def test_help_shows_the_call_as_it_is_typed_examples_and_keys(name: str) -> None:
    found = help_texts()[f"tools.{name}"]
    assert found.code == 0
    assert found.text.startswith(f"usage: python -m tools.{name} ")
    assert f"    python -m tools.{name}" in found.text
    assert "key=value" in found.text


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (tools.query, ("--nope",), "unrecognized arguments: --nope"),
        (tools.query, ("--limit", "x"), "argument --limit: invalid int value: 'x'"),
        (tools.sync, ("data/store",), "required: TO; see"),
        (tools.experiments, ("experiment.root=/nowhere",), "there is no such folder"),
        (tools.experiments, ("--sort", "height"), "--sort height is none of name"),
        (tools.experiments, ("--compare", "exp_9", f"experiment.root={ROOT / 'tests'}"), "exp_9"),
        (tools.write_shards, ("limit=0",), "limit=0 must be at least 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(
    module: object, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(ROOT / "configs" / "base.yaml")]
    try:
        code: object = run(module.COMMAND, module.main, [*config, *words])
    except SystemExit as left:
        code = left.code
    err = capsys.readouterr().err
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_what_the_machine_refuses_is_one_line(
    store: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.chdir(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        code, _, err = call(tools.query, f"store={store}", "--npy", "found.npy")  # 240 kB
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert err.startswith("error: found.npy cannot be written (")
    assert err.endswith("): free space or give another path\n")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_progress_in_a_file_has_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cli.progress_bars.SPEAK_EVERY_S", 0.0)
    with bar("counting", 200, "slice") as step:
        time.sleep(0.6)  # shorter stages say nothing
        step(100)
        step(100)
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert re.fullmatch(r"counting: 50% 100/200 slice, 00:0\d<00:0\d\n", lines[0])
    assert re.fullmatch(r"counting: 100% 200/200 slice, 00:0\d<00:00\n", lines[-1])
    assert all(line.strip().isprintable() for line in lines)


def test_a_broken_pipe_is_an_error_unless_it_is_the_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")  # of a helper, or a server

    command = Command(doc="Does nothing.", sections=Nothing, config=BASE)
    assert run(command, fail, []) == 1
    assert capsys.readouterr().err == "error: Broken pipe\n"
    script = "import sys; from tests.tools.test_commands import print_much; sys.exit(print_much())"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == b""
    assert process.returncode == 0


def print_much() -> int:
    """A command that prints 10 MB."""

    def main(*_: object) -> None:
        for _ in range(100_000):
            print("much" * 25)

    return run(Command(doc="Prints much.", sections=Nothing, config=BASE), main, [])
