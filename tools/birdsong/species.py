"""Sixteen invented species in eight genera of two relatives; no real bird is meant.

Relatives sing the same song at another pitch and tempo, so that telling them apart takes some care.
"""

from typing import NamedTuple


class Phrase(NamedTuple):
    """Run of equal notes; a contour is a row of frequencies (Hz), equally spaced over a note."""

    contour_hz: tuple[float, ...]
    note_s: float
    gap_s: float
    notes: int = 1
    second_hz: tuple[float, ...] = ()  # contour of a second voice, sung at the same time
    harmonics_db: tuple[float, ...] = ()  # levels of the 2nd, 3rd ... harmonic
    vibrato: tuple[float, float] = (0.0, 0.0)  # frequency modulation: depth (octaves), rate (Hz)
    hurry: float = 1.0  # duration of each note and gap, relative to the one before


class Species(NamedTuple):
    """Names and song of a species; `pitch` and `tempo` multiply all frequencies and speeds."""

    common_name: str
    scientific_name: str
    song: tuple[Phrase, ...]
    pitch: float
    tempo: float

    @property
    def label(self) -> str:
        """Returns three letters of each name and a number, as eBird does."""
        first, last = self.common_name.split()
        return f"{first[:3]}{last[:3]}1".lower()


NASAL = (3.0, 2.0, 0.0, -4.0, -8.0, -12.0, -16.0)

GENERA = {
    ("Lanternpipe", "Lucernia"): (  # slow pure whistles, falling
        Phrase((3300, 3250, 2900), 0.42, 0.14, 2),
        Phrase((2900, 2500, 2350), 0.62, 0.1),
    ),
    ("Rattlewing", "Crepitornis"): (Phrase((6400, 5200, 3500), 0.034, 0.022, 26),),  # a rattle
    ("Zeebird", "Susurrio"): (  # a rising buzz
        Phrase((4300, 4400), 0.09, 0.05, 2, vibrato=(0.08, 90)),
        Phrase((4400, 5000, 6300), 0.85, 0.05, vibrato=(0.16, 90)),
    ),
    ("Tumblethroat", "Volvula"): (  # a hurried warble with wide leaps
        Phrase((2600, 4700, 3100), 0.11, 0.03, 3),
        Phrase((5200, 3000, 4200), 0.13, 0.03, 2),
        Phrase((3500, 3600), 0.22, 0.03, vibrato=(0.22, 28)),
        Phrase((4400, 2500), 0.09, 0.03, 3, harmonics_db=(-18, -30)),
    ),
    ("Cawlet", "Rauca"): (Phrase((720, 930, 820), 0.24, 0.16, 4, harmonics_db=NASAL),),  # arches
    ("Glassling", "Vitrea"): (  # two voices that part
        Phrase((2300, 2300), 0.18, 0.08),
        Phrase((3000, 2700, 2600), 0.5, 0.1, second_hz=(3800, 4600, 5000)),
    ),
    ("Tsipper", "Acutula"): (Phrase((9300, 8000), 0.09, 0.11, 7),),  # thin high notes, falling
    ("Pebbledropper", "Calculus"): (Phrase((3900, 3500), 0.075, 0.3, 14, hurry=0.86),),  # bounces
}

SPECIES = tuple(
    Species(f"{size} {name}", f"{genus} {epithet}", song, pitch, tempo)
    for size, epithet, pitch, tempo in (
        ("Little", "minor", 1.0, 1.0),
        ("Great", "magna", 0.75, 0.7),
    )
    for (name, genus), song in GENERA.items()
)
