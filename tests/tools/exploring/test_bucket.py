"""tools.explore on a store in a bucket, with recordings in a bucket: as on a disk."""

from pathlib import Path

import numpy as np
import pytest

from storage.build.build import BuildConfig, build_store
from storage.objects.client import RemoteConfig
from storage.objects.open import open_objects
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.s3_server import S3
from tests.small_store import RECIPE
from tests.tools.exploring.conftest import inputs_of, served
from training.inference.exploring.exploration import Exploration, ExplorationInputs
from training.inference.similarity.place import EmbeddingPlace


@pytest.mark.slow
def test_a_bucket_is_explored_as_a_folder(folder: Path, tmp_path: Path, s3: S3) -> None:
    source = folder / "source"
    bucket = open_objects(s3.url("source"))
    for path in sorted(source.rglob("*.*")):
        bucket.put_new(str(path.relative_to(source)), path.read_bytes())
    url = s3.url("store")
    build_store(SourceConfig(root=str(source)), RECIPE, url, BuildConfig(workers=1))
    remote = RemoteConfig()
    place = EmbeddingPlace(source=SourceConfig(root=s3.url("source")), remote=remote)
    there = ExplorationInputs(embeddings=place, reviews=tmp_path / "there")
    here = inputs_of(folder, tmp_path / "here")
    with open_store(url, remote) as far, open_store(str(folder / "store")) as near:
        opened = Exploration.open(far, there)
        with (
            served(opened, folder / "page") as client,
            served(Exploration.open(near, here), folder / "page") as other,
        ):
            for path, parameters in (
                ("/api/rows", {"count": 1, "start": 3}),
                ("/api/sheet", {"rows": "0,3,1"}),
                ("/api/audio", {"row": 4}),
            ):
                found = client.get(path, **parameters)
                assert found.status == 200, found.body
                if path == "/api/rows":
                    row = other.get(path, **parameters).json["rows"][0]
                    assert found.json["rows"][0].items() <= row.items()
                else:
                    assert found.body == other.get(path, **parameters).body
        opened.close()
    assert np.array_equal(opened.frame.rows, np.arange(len(opened.frame)))
