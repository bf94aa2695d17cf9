"""configs/birdclef2026.yaml and its round, from embeddings to a submission, by the commands."""

from pathlib import Path

import polars as pl
import pytest

import tools.embed
import tools.predict
import tools.pseudo_label
import tools.train
from tests.paths import ROOT
from tests.tools.test_pseudo_label import build_stores
from tools.cli.command import run

SMALL = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "train_folds=[0]",
    "folds.num_folds=3",
    "folds.group_by=auto",
    "train_loader.batch_size=4",
    "trainer.effective_batch_size=4",
    "sampling.min_draws_per_class=4",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.progress=false",
    "trainer.logger=csv",
)
MACHINE = ("predict.accelerator=cpu", "predict.threads=1", "predict.workers=0")


def made(module: object, config: str, *words: object) -> None:
    """Runs a command that must do what it is asked."""
    file = ROOT / "configs" / f"{config}.yaml"
    assert run(module.COMMAND, module.main, ["--config", str(file), *map(str, words)]) == 0


@pytest.mark.slow  # two trainings
def test_distillation_a_round_with_injection_and_a_blended_submission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_stores(tmp_path)
    where, bed = f"experiment.root={tmp_path}", tmp_path / "bed"
    focal, pool, labelled = (tmp_path / name for name in ("focal", "pool", "labelled"))

    teacher = tmp_path / "teacher.parquet"
    made(tools.embed, "base", f"store={focal}", "embed.model=spectral", f"embed.out={teacher}")
    words = (f"sources.focal.store={focal}", where, *SMALL, "trainer.epochs=2")
    distilled = (f"teacher.sources.focal={teacher}", "teacher.phase=first", "teacher.epochs=1")
    made(tools.train, "birdclef2026", *words, *distilled)

    out = tmp_path / "preds" / "round_1"
    transform = "pseudo.transform=[{floor: 0.05}, {power: 1.5}, {cap_sum: 0.75}]"
    teach = ("predict.from=exp_001", f"predict.input={pool}", f"predict.out={out}", transform)
    made(tools.pseudo_label, "base", where, *teach, *MACHINE)

    sources = (
        f"sources.pool.store={pool}",
        f"sources.pool.targets={out / 'targets.parquet'}",
        f"sources.labelled.store={labelled}",
        f"sources.labelled.segments={bed / 'labelled_segments.csv'}",
    )
    made(tools.train, "birdclef2026_round", *words, *sources, "trainer.warm_start=exp_001")

    stems = sorted(path.stem for path in (bed / "test").glob("*.ogg"))
    rows = [f"{stem}_{second}" for stem in stems for second in range(2, 13, 2)]
    labels = pl.read_csv(bed / "focal" / "taxonomy.csv")["primary_label"].to_list()
    sample = tmp_path / "sample_submission.csv"
    pl.DataFrame({"row_id": rows, **dict.fromkeys(labels, 0.5)}).write_csv(sample)
    answer = tmp_path / "preds" / "test"
    given = (f"predict.input={bed / 'test'}", f"predict.out={answer}", "predict.step_s=2", *MACHINE)
    submission = ("output.formats=[submission]", f"output.sample_submission={sample}")
    blend = ("predict.from=[exp_001,exp_002]", "blend.method=rank", "post=[{file_top: {k: 2}}]")
    made(tools.predict, "base", where, *blend, "predict.frames=overlap_mean", *given, *submission)
    found = pl.read_csv(answer / "submission.csv")
    assert found.columns == ["row_id", *labels]
    assert found["row_id"].to_list() == rows
    values = found.drop("row_id").to_numpy()
    assert ((values >= 0) & (values <= 1)).all()
    assert values.std(axis=0).min() > 0
