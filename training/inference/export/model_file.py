"""Opens an exported model of any kind, by the ending of its file."""

from pathlib import Path

from training.inference.export.openvino_session import open_openvino
from training.inference.export.session import Session, open_session
from training.inference.model_files import OPENVINO


def open_model_file(path: str | Path, threads: int = 1) -> Session:
    """Opens an .onnx in onnxruntime, an .xml in OpenVINO, for the CPU; errors as of these."""
    if Path(path).suffix == OPENVINO:
        return open_openvino(path, threads)
    return open_session(path, threads)
