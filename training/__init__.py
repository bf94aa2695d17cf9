"""From batches of slices to trained classifiers, scores and predictions.

A short tour, in the order in which things happen:

    cross_validation.train_folds   an experiment; each fold; what all of them give together
      config, split                all sections; labels, folds and targets of the recordings
      experiment                   exp_001, exp_002, ...: numbers, folders, what a failure leaves
      fold.train_fold              one fold: data, model, fit, best checkpoint, predictions
        data_module                the fold's two readers: to learn from, and held out
        models                     timm backbone on one channel, or several -> logits, embedding
        module                     Lightning: augment, loss, scores, the guard against NaN
          losses, metrics, optimizers
        averaging                  SWA or EMA: what validation and checkpoints see
        trainer, choices           epochs, accumulation, early stopping; what `auto` comes to
        checkpoints, predict       fold_K.ckpt, enough by itself; out-of-fold predictions
      progress                     a bar per fold
      report, pictures             the table of folds, scores.json, curves and confusion
      experiment_table, blend      what tools.experiments lists; the mean of several
      memory                       what is left of it between folds
      ranks, resume                several processes: what all of them know; checkpoints that fit

Start with `cross_validation`, then `module`. Everything here takes a `SliceSource`: a store and a
set of tar shards train alike.
"""

import os

# OpenMP threads that wait by spinning take the processor from the thread they wait for as soon as
# anything else runs: with one other busy program, a step on 2 cores took 5 to 20 times as long.
# Read when torch is loaded, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
