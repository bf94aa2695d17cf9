"""Sixteen invented birds, written down as notes; no real bird is meant.

A species is a row of phrases, a phrase a run of notes alike. They come as eight pairs of relatives
whose songs differ in pitch, tempo or direction only, so that telling them apart takes some care.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A run of `notes` alike.

    A contour is a row of frequencies in Hz, equally spaced over the note, joined in octaves.
    """

    contour_hz: tuple[float, ...]
    note_s: float
    gap_s: float = 0.05
    notes: int = 1
    second_hz: tuple[float, ...] = ()  # contour of a second voice, sung at the same time
    harmonics_db: tuple[float, ...] = ()  # levels of the 2nd, 3rd ... harmonic
    wobble: tuple[float, float] = (0.0, 0.0)  # frequency modulation: depth in octaves, rate in Hz
    buzz: tuple[float, float] = (0.0, 0.0)  # amplitude modulation: depth from 0 to 1, rate in Hz
    drift_octaves: float = 0.0  # from the first note of the run to the last
    hurry: float = 1.0  # each note and gap lasts this many times the one before


@dataclass(frozen=True, slots=True, kw_only=True)
class Species:
    """A bird; `pause_s` lies between two songs, the call replaces a song now and then."""

    label: str
    common_name: str
    scientific_name: str
    song: tuple[Phrase, ...]
    call: Phrase
    pause_s: float = 1.5


TWEET = (-18.0, -30.0)
NASAL = (3.0, 2.0, 0.0, -4.0, -8.0, -12.0, -16.0)

SPECIES = (
    Species(  # slow pure whistles, falling
        label="pallan1",
        common_name="Pale Lanternpipe",
        scientific_name="Lucernia pallida",
        song=(
            Phrase(contour_hz=(3300, 3250, 2900), note_s=0.42, gap_s=0.14, notes=2),
            Phrase(contour_hz=(2900, 2500, 2350), note_s=0.62, gap_s=0.1),
        ),
        call=Phrase(contour_hz=(2500, 3300), note_s=0.12),
    ),
    Species(  # a fast rattle of short falling notes
        label="bograt1",
        common_name="Bog Rattlewing",
        scientific_name="Crepitornis palustris",
        song=(
            Phrase(
                contour_hz=(6400, 5200, 3500),
                note_s=0.034,
                gap_s=0.022,
                notes=26,
                harmonics_db=TWEET,
                drift_octaves=-0.15,
            ),
        ),
        call=Phrase(contour_hz=(5200, 6600, 4800), note_s=0.05, gap_s=0.12, notes=2),
    ),
    Species(  # a rising buzz
        label="copzee1",
        common_name="Copper Zeebird",
        scientific_name="Susurrio cuprea",
        song=(
            Phrase(contour_hz=(4300, 4400), note_s=0.09, gap_s=0.05, notes=2, wobble=(0.08, 90)),
            Phrase(contour_hz=(4400, 5000, 6300), note_s=0.85, wobble=(0.16, 90)),
        ),
        call=Phrase(contour_hz=(6900, 5000), note_s=0.06, harmonics_db=TWEET),
    ),
    Species(  # a hurried warble with wide leaps
        label="brotum1",
        common_name="Brook Tumblethroat",
        scientific_name="Volvula rivalis",
        song=(
            Phrase(contour_hz=(2600, 4700, 3100), note_s=0.11, gap_s=0.03, notes=3),
            Phrase(contour_hz=(5200, 3000, 4200), note_s=0.13, gap_s=0.03, notes=2),
            Phrase(contour_hz=(3500, 3600), note_s=0.22, gap_s=0.03, wobble=(0.22, 28)),
            Phrase(contour_hz=(4400, 2500), note_s=0.09, gap_s=0.03, notes=3, harmonics_db=TWEET),
        ),
        call=Phrase(contour_hz=(3800, 3000), note_s=0.05, gap_s=0.05, notes=3),
    ),
    Species(  # nasal calls, arched
        label="marcaw1",
        common_name="Marsh Cawlet",
        scientific_name="Rauca limosa",
        song=(
            Phrase(
                contour_hz=(720, 930, 780),
                note_s=0.24,
                gap_s=0.16,
                notes=4,
                harmonics_db=NASAL,
            ),
        ),
        call=Phrase(contour_hz=(900, 1250), note_s=0.1, harmonics_db=NASAL),
    ),
    Species(  # two voices that part
        label="twigla1",
        common_name="Twin-toned Glassling",
        scientific_name="Vitrea bivox",
        song=(
            Phrase(contour_hz=(2300, 2300), note_s=0.18, gap_s=0.08),
            Phrase(
                contour_hz=(3000, 2700, 2600), second_hz=(3800, 4600, 5000), note_s=0.5, gap_s=0.1
            ),
            Phrase(contour_hz=(4100, 4000), second_hz=(5600, 5800), note_s=0.3, wobble=(0.04, 30)),
        ),
        call=Phrase(contour_hz=(3600, 3300), second_hz=(4700, 4900), note_s=0.09),
    ),
    Species(  # thin high notes, even
        label="siltsi1",
        common_name="Silver Tsipper",
        scientific_name="Acutula argentea",
        song=(Phrase(contour_hz=(8300, 7500), note_s=0.09, gap_s=0.11, notes=7),),
        call=Phrase(contour_hz=(7700, 8600, 8000), note_s=0.2),
    ),
    Species(  # a bouncing ball
        label="dunpeb1",
        common_name="Dune Pebbledropper",
        scientific_name="Calculus arenarius",
        song=(
            Phrase(
                contour_hz=(3900, 3500),
                note_s=0.075,
                gap_s=0.3,
                notes=14,
                harmonics_db=(-14.0, -24.0),
                hurry=0.86,
            ),
        ),
        call=Phrase(contour_hz=(4300, 3300), note_s=0.06, gap_s=0.08, notes=2),
        pause_s=1.8,
    ),
    Species(  # long rising sweeps
        label="fersli1",
        common_name="Fern Slidebill",
        scientific_name="Lapsus filicis",
        song=(
            Phrase(
                contour_hz=(1500, 2400, 6200),
                note_s=0.48,
                gap_s=0.2,
                notes=2,
                harmonics_db=(-16.0, -26.0),
            ),
        ),
        call=Phrase(contour_hz=(2000, 3600), note_s=0.08),
    ),
    Species(  # whistles again, rising
        label="grblan1",
        common_name="Grey-browed Lanternpipe",
        scientific_name="Lucernia canescens",
        song=(
            Phrase(contour_hz=(2350, 2500, 2800), note_s=0.38, gap_s=0.12, notes=2),
            Phrase(contour_hz=(2800, 2950, 3400), note_s=0.55, gap_s=0.1),
        ),
        call=Phrase(contour_hz=(3200, 2400), note_s=0.14),
    ),
    Species(  # the rattle, slower and lower
        label="hilrat1",
        common_name="Hill Rattlewing",
        scientific_name="Crepitornis collina",
        song=(
            Phrase(
                contour_hz=(5500, 4300, 2900),
                note_s=0.055,
                gap_s=0.05,
                notes=14,
                harmonics_db=TWEET,
                drift_octaves=0.12,
            ),
        ),
        call=Phrase(contour_hz=(4600, 5800, 4200), note_s=0.06, gap_s=0.1, notes=2),
    ),
    Species(  # the buzz, falling, stuttering, in pairs
        label="duszee1",
        common_name="Dusk Zeebird",
        scientific_name="Susurrio vespertina",
        song=(
            Phrase(contour_hz=(5900, 4900, 4300), note_s=0.48, gap_s=0.16, notes=2, buzz=(1.0, 48)),
        ),
        call=Phrase(contour_hz=(5000, 6600), note_s=0.07, harmonics_db=TWEET),
    ),
    Species(  # the warble, lower and slower
        label="gartum1",
        common_name="Garden Tumblethroat",
        scientific_name="Volvula hortensis",
        song=(
            Phrase(contour_hz=(2100, 3300, 2300), note_s=0.16, gap_s=0.05, notes=3),
            Phrase(contour_hz=(2800, 2900), note_s=0.26, gap_s=0.04, wobble=(0.2, 17)),
            Phrase(contour_hz=(3700, 2200, 3000), note_s=0.18, gap_s=0.05, notes=2),
        ),
        call=Phrase(contour_hz=(3000, 2400), note_s=0.07, gap_s=0.06, notes=3),
    ),
    Species(  # nasal, lower, falling
        label="stocaw1",
        common_name="Stone Cawlet",
        scientific_name="Rauca saxatilis",
        song=(
            Phrase(contour_hz=(640, 560, 430), note_s=0.34, gap_s=0.2, notes=3, harmonics_db=NASAL),
        ),
        call=Phrase(contour_hz=(820, 600), note_s=0.12, harmonics_db=NASAL),
    ),
    Species(  # two voices that meet
        label="lesgla1",
        common_name="Lesser Glassling",
        scientific_name="Vitrea minor",
        song=(
            Phrase(
                contour_hz=(3000, 3500, 3900),
                second_hz=(5900, 5000, 4500),
                note_s=0.34,
                gap_s=0.12,
                notes=3,
            ),
        ),
        call=Phrase(contour_hz=(4200, 4000), second_hz=(5300, 5500), note_s=0.08),
    ),
    Species(  # thin high notes in twos, rising
        label="frotsi1",
        common_name="Frost Tsipper",
        scientific_name="Acutula pruinosa",
        song=(
            Phrase(contour_hz=(6700, 7600), note_s=0.06, gap_s=0.06, notes=2),
            Phrase(contour_hz=(6400, 7900, 7300), note_s=0.22, gap_s=0.1, notes=2),
        ),
        call=Phrase(contour_hz=(7900, 6900), note_s=0.18),
    ),
)
