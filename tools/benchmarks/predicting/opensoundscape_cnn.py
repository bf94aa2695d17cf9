"""Predicts a folder with opensoundscape, and measures it. Knows nothing of melbank.

    python -I opensoundscape_cnn.py RESULT.json SOURCE BACKBONE NUM_CLASSES WORKERS

`CNN.predict` as its manual has it: windows of 5 s at 32 kHz, batches of 32, random weights. Its
spectrograms are its own, 224 x 224. A backbone that it does not have gives an empty result.
"""

import json
import sys
import time
import warnings
from pathlib import Path

from opensoundscape import CNN
from opensoundscape.ml import cnn_architectures


def main(result: str, source: str, backbone: str, num_classes: str, workers: str) -> None:
    """Predicts and writes the time that it took, s, without the imports."""
    warnings.filterwarnings("ignore")
    make = getattr(cnn_architectures, backbone, None)
    found = {}
    if make is not None:
        begin = time.monotonic()
        classes = [f"class {number}" for number in range(int(num_classes))]
        network = make(num_classes=len(classes), weights=None)
        model = CNN(network, classes=classes, sample_duration=5.0, sample_rate=32_000)
        files = sorted(map(str, Path(source).iterdir()))
        scores = model.predict(
            files, batch_size=32, num_workers=int(workers), activation_layer="sigmoid"
        )
        found = {"work_s": time.monotonic() - begin, "num_windows": len(scores)}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
