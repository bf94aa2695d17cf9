"""Trained classifiers as ONNX files, and such files as classifiers.

`onnx_export` writes a file, `front_end` puts the recipe's mel spectrogram into it, `metadata` says
what the file is, `session` opens any file in onnxruntime, `onnx_model` predicts from ours.
"""
