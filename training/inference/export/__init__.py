"""Trained classifiers as files of ONNX or OpenVINO, and such files as classifiers.

`write` exports and compares, by `onnx_export` and `openvino_export`; `front_end` puts the recipe's
mel spectrogram into the file, `metadata` says what it is. `model_file` opens any file, by `session`
in onnxruntime and by `openvino_session` in OpenVINO; `onnx_model` predicts from ours of any kind.
"""
