"""Models with random weights, of the default recipe, for the benchmark of predictions."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from storage.recipe import Recipe

NUM_CLASSES = 206
TORCH, ONNX, OPENVINO = "torch", "onnxruntime", "openvino"


def write_models(folder: Path, backbone: str) -> dict[str, Path]:
    """Writes a checkpoint and, where their extras are there, the same for onnxruntime and OpenVINO.

    Of the latter the weights have 16 bits.
    """
    from training.inference.export.onnx_export import ExportOptions, export_onnx
    from training.inference.export.openvino_export import export_openvino
    from training.model.checkpoints import read_checkpoint

    files = {TORCH: write_checkpoint(folder, backbone)}
    if find_spec("onnx") and find_spec("onnxruntime"):
        files[ONNX] = folder / f"{backbone}.onnx"
        export_onnx([read_checkpoint(files[TORCH])], files[ONNX], ExportOptions())
    if find_spec("onnx") and find_spec("openvino"):
        files[OPENVINO] = folder / f"{backbone}.xml"
        export_openvino([read_checkpoint(files[TORCH])], files[OPENVINO], ExportOptions())
    return files


def write_checkpoint(folder: Path, backbone: str) -> Path:
    """Writes a checkpoint as training does; test_resnet takes means of 2 x 2 cells."""
    import torch

    from datasets.labels import Labels
    from training.model.checkpoints import checkpoint_contents
    from training.model.config import ModelConfig
    from training.model.models import build_classifier

    views = [[2, 2]] if backbone == "test_resnet" else [[1, 1]]
    config, recipe = ModelConfig(backbone=backbone, views=views, output="sigmoid"), Recipe()
    model = build_classifier(config, num_classes=NUM_CLASSES, slice_shape=recipe.slice_shape)
    labels = Labels(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    contents = checkpoint_contents(labels, recipe, {"model": asdict(config)}, fold=0)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    path = folder / f"{backbone}.ckpt"
    torch.save({"state_dict": weights, "epoch": 0, "melbank": contents}, path)
    return path
