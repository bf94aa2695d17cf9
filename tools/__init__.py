"""The commands, each `python -m tools.NAME --config FILE key=value ...`.

No command imports another: `cli` is what they share, `benchmarks` measure, and `testbed` has the
servers and faults of tests and benchmarks. Commands are thin; the layers below do the work.
"""
