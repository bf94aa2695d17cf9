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


IS_COMMAND = sys.argv[:1] == ["-m"]

# Under LC_ALL=C or an old locale Python may read names of files in another encoding than they are.
if IS_COMMAND and sys.getfilesystemencoding() != "utf-8":
    words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execve(sys.executable, words, {**os.environ, "PYTHONUTF8": "1"})

# A command that is being imported: until it runs, Ctrl-C ends it. Polars drops the signal where
# its handler is SIG_DFL.
if IS_COMMAND and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)
