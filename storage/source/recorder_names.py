"""Date, time and site of recordings, from the names that recorders give to their files.

    AudioMoth    20240601_053000.WAV, 20240601_053000T.WAV (triggered), 5EC5A158.WAV (before 2020:
                 seconds since 1970 in hexadecimal), SERIAL_20240601_053000.WAV
    Song Meter   SITE_20240601_053000.wav, SITE_20240601$053000.wav (GPS), and with the channel,
                 SITE_0+1_20240601_053000.wav, SITE__0__20240601_053000.wav
    BirdCLEF     BC2026_Train_0001_S08_20250606_030007.ogg: after the number of the file, the site

What follows the time, as in the names of clips, is ignored. A hexadecimal name has at least one
letter: eight digits may be any number. Any other name has neither date nor site.
"""

import polars as pl

DATE, TIME, SITE = "date", "time", "site"

_STEM = r"([^/\\]+?)(?:\.[^./\\]*)?$"
_CHANNEL = r"(?:__[01]_|_[01]\+[01]|_-[01]-)"
_TIMED = rf"^(?:(?<site>.+?){_CHANNEL}?_)?(?<day>20\d{{6}})[_$](?<clock>\d{{6}})T?(?:[_.-].*)?$"
_HEXADECIMAL = r"^((?:5[89A-F]|6[0-9A-F])[0-9A-F]{6})$"  # October 2016 to July 2029
_LETTER = r"[A-F]"
_NUMBERED_SITE = r"^.+_\d+_(S\d+)$"


def with_recorder_columns(recordings: pl.DataFrame) -> pl.DataFrame:
    """Adds `date` (ISO 8601) and `site`, text, parsed from `filename`; null where it does not say.

    A column is added only where some name gives a value, and where there is none of its name.
    """
    found = parse_names(recordings["filename"]).select(DATE, SITE)
    new = [
        column
        for column in found.get_columns()
        if column.name not in recordings.columns and column.null_count() < len(column)
    ]
    return recordings.with_columns(new)


def parse_names(filenames: pl.Series) -> pl.DataFrame:
    """Columns date (ISO 8601), time (HH:MM:SS) and site, text; null where a name does not say."""
    stems = pl.DataFrame({"stem": filenames.str.extract(_STEM)})
    parts = pl.col("stem").str.extract_groups(_TIMED)
    text = pl.concat_str(parts.struct.field("day"), parts.struct.field("clock"))
    timed = text.str.to_datetime("%Y%m%d%H%M%S", strict=False)
    began = pl.coalesce(timed, _hexadecimal_time(pl.col("stem")))
    # a name with a date of no calendar has no site either
    site = parts.struct.field("site")
    site = pl.coalesce(site.str.extract(_NUMBERED_SITE), site)
    site = pl.when(timed.is_not_null()).then(site)
    return stems.select(
        began.dt.strftime("%Y-%m-%d").alias(DATE),
        began.dt.strftime("%H:%M:%S").alias(TIME),
        site.alias(SITE),
    )


def _hexadecimal_time(stem: pl.Expr) -> pl.Expr:
    name = pl.when(stem.str.contains(_LETTER)).then(stem.str.extract(_HEXADECIMAL))
    seconds = name.str.to_integer(base=16, strict=False)
    return pl.from_epoch(seconds, time_unit="s").dt.cast_time_unit("us")
