"""Embeddings of the slices of a store, from any model, and linear probes on them.

embed.embed_store    a store, an embedder -> a table with one line per slice, part by part
  embedders          a checkpoint, a file of ONNX, or BirdNET, with one interface
  slice_audio        the windows of a waveform model in the slices of a store
  table              the file: its columns, and what made it
linear_probe         a linear classifier on such embeddings, and its file
probe_predictions    probes on a table of embeddings
probe_classifier     probes after the models of their embeddings, as models of a prediction
"""
