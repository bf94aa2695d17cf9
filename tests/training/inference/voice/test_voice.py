"""training.inference.voice: shares of human voice in the slices of a store."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from datasets.sampling.voice import read_voice
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from tests.training.inference.voice.detector import write_detector
from training.inference.embeddings.embed import AudioFiles
from training.inference.voice import silero
from training.inference.voice.config import VoiceConfig
from training.inference.voice.measure import measure_voice
from training.inference.voice.silero import CONTEXT_SAMPLES, FRAME_SAMPLES, SileroVoice


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("detector") / "detector.onnx")


def test_frames_follow_the_end_of_the_one_before_and_carry_the_state(detector_file: Path) -> None:
    rng = np.random.default_rng(1)
    samples = rng.uniform(-0.5, 0.5, (3, 1600)).astype(np.float32)  # three frames and a rest
    detector = SileroVoice(0.1, path=detector_file)
    found = detector.probabilities(samples)
    assert found.shape == (3, 4)
    for number, own in enumerate(samples):
        filled = np.concatenate([np.zeros(CONTEXT_SAMPLES), own, np.zeros(448)])
        for frame in range(4):
            begin = frame * FRAME_SAMPLES
            heard = filled[begin : begin + CONTEXT_SAMPLES + FRAME_SAMPLES]
            assert found[number, frame] == pytest.approx(heard.max() + 0.01 * frame, abs=1e-6)
        np.testing.assert_allclose(detector.probabilities(own[None])[0], found[number], atol=1e-6)
    assert detector.embed(samples)[:, 0].tolist() == (found >= 0.5).mean(axis=1).tolist()


def test_shares_are_those_of_the_audio_and_a_stopped_run_goes_on(
    tmp_path: Path, detector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.inference.embeddings.embed.PART_SLICES", 2)
    store = write_fake_source(
        tmp_path / "cells.raw", [2, 1, 3], seed=1
    )  # half-seconds, 2.5 s apart
    rng = np.random.default_rng(0)
    loud = iter([True, False, False, True, True, False])
    paths = {}
    for name, count in store.table.select("recording_id", "num_slices").iter_rows():
        samples = np.concatenate([rng.uniform(-1, 1, 40_000) * next(loud) for _ in range(count)])
        paths[name] = str(tmp_path / f"{len(paths)}.wav")
        soundfile.write(paths[name], samples, 16_000)
    audio = AudioFiles(paths=paths, channel="mean")
    config = VoiceConfig(out=str(tmp_path / "out" / "voice.parquet"), batch_size=3)

    def measure(detector: SileroVoice) -> pl.DataFrame:
        return measure_voice(store, store.recordings(), detector, config, audio=audio)

    detector = SileroVoice(store.recipe.slice_s, path=detector_file)
    usual, calls = detector.embed, []

    def stopped(inputs: np.ndarray) -> np.ndarray:
        calls.append(len(inputs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return usual(inputs)

    with monkeypatch.context() as patched:
        patched.setattr(SileroVoice, "embed", lambda _, inputs: stopped(inputs))
        with pytest.raises(KeyboardInterrupt):
            measure(detector)
    assert not Path(config.out).exists()
    frame = measure(detector)
    assert frame.columns == ["row", "recording_id", "voice_share"]
    assert frame["row"].to_list() == store.index["row"].to_list()
    assert frame["voice_share"].round(2).to_list() == [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert pl.read_parquet(config.out).equals(frame)
    assert "Silero" in pl.read_parquet_metadata(config.out)["melbank.embeddings"]
    assert [path.name for path in Path(config.out).parent.iterdir()] == ["voice.parquet"]
    assert (
        read_voice(config.out, store.recordings()).share.tolist() == frame["voice_share"].to_list()
    )


def test_without_the_extra_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="install the extra `voice`"):
        SileroVoice(5.0)
    with pytest.raises(ConfigError, match=r"must end in \.parquet"):
        VoiceConfig(out="voice.csv")
