"""Mix soundscapes from labelled recordings over real backgrounds: a test bed with exact labels.

    python -m tools.mix_soundscapes mix.recordings=birds mix.backgrounds=[noise] mix.out=data/bed
    python -m tools.mix_soundscapes mix.recordings=birds mix.backgrounds=[noise,esc10] \\
        mix.background_labels=[rain,sea_waves] mix.min_snr_db=-20 mix.max_snr_db=0 mix.max_calls=16

Shares recordings and backgrounds out to four roles, of which none has one of another: focal/ to
learn from, pool/ without labels, labelled/ with labelled_segments.csv, and test/, of which
hidden/test_labels.csv has the labels of each window and hidden/truth.csv each call. The files
depend on the config and the sources alone, not on the number of workers. A minute takes about
half a second.
"""

import sys
from dataclasses import dataclass, field

from tools.cli.command import Arguments, Command, run
from tools.cli.progress_bars import bar
from tools.soundscapes.config import MixConfig


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    mix: MixConfig = field(default_factory=MixConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Writes the test bed and prints its summary."""
    from tools.soundscapes.test_bed import make_test_bed  # scipy, which `--help` can do without

    print(make_test_bed(config.mix, progress=bar))


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
