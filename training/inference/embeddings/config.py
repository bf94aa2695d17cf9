"""Configs of embeddings and probes; import no torch."""

from dataclasses import dataclass, field

from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, check_positive, option

BIRDNET = "birdnet"
SLICE, RECORDING = "slice", "recording"
TABLE_ENDING = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderConfig:
    """Model of embeddings."""

    model: str = option(
        "",
        "exp_003/fold_0, a .ckpt, an .onnx of any origin, birdnet (an extra, CC BY-NC-SA), or "
        "spectral, which needs no model; tools.predict wants it only for probes on an .onnx",
    )
    input: str = option("", "input of a foreign .onnx; left out, its only one")
    output: str = option("", "output of a foreign .onnx; left out, `embedding` or its only one")
    sample_rate_hz: int | None = option(
        None, "rate of the waveforms that a foreign .onnx takes, Hz; left out, by its metadata"
    )
    window_s: float | None = option(
        None, "length of the waveforms that a foreign .onnx takes, s; left out, by its input"
    )

    def __post_init__(self) -> None:
        check_positive(self, "embed", "sample_rate_hz", "window_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedConfig(EmbedderConfig):
    """Model of embeddings, and the file to write."""

    out: str = option("embeddings.parquet", "file to write")
    batch_size: int = option(32, "slices or windows that the model takes at once")
    threads: int = option(0, "of the model on the CPU; 0: as many as this process may use")

    def __post_init__(self) -> None:
        EmbedderConfig.__post_init__(self)  # super() has lost its class: slots make a new one
        check_at_least(self, "embed", 1, "batch_size")
        check_at_least(self, "embed", 0, "threads")
        if not self.out.endswith(TABLE_ENDING):
            raise ConfigError(f"embed.out={self.out} must end in {TABLE_ENDING}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """A linear classifier on embeddings."""

    embeddings: str = option("", "file that tools.embed has written")
    from_: list[str] = field(
        default_factory=list,
        metadata={
            "help": "probes that predict these embeddings instead of new ones: exp_012, "
            "exp_012/fold_0 or a .safetensors; of several the mean"
        },
    )
    out: str = option("predictions.parquet", "with probe.from: file of the predictions")
    pool: str = option(RECORDING, "learns from each slice, or from the mean of each recording")
    strength: float = option(1.0, "inverse of the L2 penalty, scikit-learn's C")
    max_iterations: int = option(1000, "largest number of steps of the solver")

    def __post_init__(self) -> None:
        check_choice(self, "probe", "pool", (SLICE, RECORDING))
        check_positive(self, "probe", "strength")
        check_at_least(self, "probe", 1, "max_iterations")
        if not self.out.endswith(TABLE_ENDING):
            raise ConfigError(f"probe.out={self.out} must end in {TABLE_ENDING}")
