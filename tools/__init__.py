"""Commands, each `python -m tools.NAME --config FILE key=value ...`, one file each.

`cli` parses command lines, merges YAML and `key=value` words into config sections, draws progress
and writes output files. `birdsong` synthesises the recordings of `demo`, `testbed` holds servers
and faults for tests and benchmarks, `benchmarks` measures. Commands are thin and import no other
command: their work is done in the layers below.
"""

import os
import signal
import sys


def end_at_once(*_: object) -> None:
    """Ends the process on Ctrl-C, where libraries would show tracebacks of their own, or go on."""
    os._exit(130)


# A command that is being imported: until it runs, Ctrl-C ends it. Polars drops the signal where
# its handler is SIG_DFL.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)
