"""Config of a teacher: its files, and how its embeddings are learned. Imports no torch."""

from dataclasses import dataclass

from datasets.sources.teacher import SKIP, TeacherFiles
from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, check_positive, option

COSINE, MSE = "cosine", "mse"
LINEAR, MLP = "linear", "mlp"
TOGETHER, FIRST, LABELS = "together", "first", "labels"
KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig(TeacherFiles):
    """Embeddings of a teacher as further targets."""

    loss: str = option(COSINE, "distance to the teacher: cosine (1 - cos) or mse")
    weight: float = option(1.0, "of this loss; that of the labels has 1")
    projection: str = option(LINEAR, "from the model's embedding to the teacher's: linear or mlp")
    hidden: int = option(1024, "hidden units of the projection mlp")
    phase: str = option(
        TOGETHER, "together with the labels, or first: the first epochs learn the teacher alone"
    )
    epochs: int = option(0, "phase first: number of epochs that learn the teacher alone")
    then: str = option(TOGETHER, "after phase first: together, or labels (alone)")
    injected: str = option(
        SKIP, "samples with an injected partner: skip the teacher, or keep that of the sample"
    )

    def __post_init__(self) -> None:
        TeacherFiles.__post_init__(self)
        check_choice(self, "teacher", "loss", (COSINE, MSE))
        check_positive(self, "teacher", "weight", "hidden")
        check_choice(self, "teacher", "projection", (LINEAR, MLP))
        check_choice(self, "teacher", "phase", (TOGETHER, FIRST))
        check_choice(self, "teacher", "then", (TOGETHER, LABELS))
        check_choice(self, "teacher", "injected", (SKIP, KEEP))
        check_at_least(self, "teacher", 0, "epochs")
        if (self.phase == FIRST) != (self.epochs > 0):
            raise ConfigError(
                f"teacher.phase={self.phase} with teacher.epochs={self.epochs}: "
                f"teacher.phase={FIRST} needs teacher.epochs of 1 or more, and only it has any"
            )
        if self.phase == FIRST and not self.given:
            raise ConfigError(
                f"teacher.phase={FIRST} needs the embeddings of a teacher: give teacher.embeddings="
            )
        if self.phase == TOGETHER and self.then == LABELS:
            raise ConfigError(
                f"teacher.then={LABELS} is for what follows teacher.phase={FIRST}: set that too, "
                "with teacher.epochs="
            )

    def shares(self, epoch: int) -> tuple[float, float]:
        """Factors of the loss of the labels and of that of the teacher in an epoch from 0."""
        if epoch < self.epochs:
            return 0.0, self.weight
        return 1.0, 0.0 if self.then == LABELS else self.weight
