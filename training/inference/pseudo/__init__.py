"""Pseudo-labels: predictions of a pool, transformed into soft targets for the next round.

`pool` holds the targets of the slices of a store, `transform` the ordered steps over them, `given`
reads tables that steps take, `teachers` finds what each teacher has learned from, `report` compares
rounds, `make` does a round.
"""
