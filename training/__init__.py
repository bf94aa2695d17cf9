"""From batches of slices to trained classifiers, scores and predictions.

    cross_validation.train_folds   an experiment: each fold, then the scores of all
      config, split, fold_data     sections of the config; labels, folds, targets; plans of a fold
      side_by_side                 several folds at once, each in a process of its own
      fold.train_fold              one fold: data, model, fit, best checkpoint, predictions
        data_module                the fold's two readers: training and held out
        module                     Lightning: augment, loss, scores, the guard against NaN
        trainer                    epochs, accumulation, early stopping
    probe.probe_folds              an experiment of linear classifiers on embeddings
      inference                    new recordings: predictions, outputs, evaluation, export
      model                        networks, losses, metrics, optimizers, averaging, checkpoints
      experiments                  exp_001, exp_002, ...: folders, reports, lists, blends
      runtime                      ranks, memory, bars, the values of `auto`

Start with `cross_validation`, then `module`. Everything here takes a `SliceSource`, so stores and
tar shards train alike.
"""

import os

# OpenMP threads that wait by spinning take the processor from the thread they wait for as soon as
# anything else runs: with one other busy program, a step on 2 cores took 5 to 20 times as long.
# Read when torch is loaded, so it is here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
