"""Commands, each `python -m tools.NAME --config FILE key=value ...`, one file each.

`cli` parses command lines, merges YAML and `key=value` words into config sections, draws progress
and writes output files. `birdsong` synthesises the recordings of `demo`, `testbed` holds servers
and faults for tests and benchmarks, `benchmarks` measures. Commands are thin and import no other
command: their work is done in the layers below.
"""

import signal
import sys

# A command that is being imported: until it runs, Ctrl-C ends it at once and without a traceback.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
