"""From trained models and new recordings to species with times.

    reading      recordings, URLs or a store -> windows of cells, decoded ahead of the models
    members      predict.from -> models: checkpoints, exported files, probes
    predictor    windows -> raw results, committed recording by recording (results, fingerprint)
    run_outputs  raw results -> blend, calibration, post -> outputs
    outputs      detections; tables, Raven, Audacity, Kaleidoscope, submissions, excerpts, pictures
    post         blending, and the steps of post-processing
    evaluation   annotations, scores, calibration, thresholds
    export       files of ONNX and OpenVINO
    embeddings   embeddings of slices, BirdNET, linear probes

`predictions` is the interface between predicting, post-processing and outputs.
"""
