"""Kinds of audio that are not decoded here: their endings and first bytes, and the way out."""

CONVERT = 'ffmpeg -i "NAME{ending}" "NAME.flac"'

# fmt: off
OTHER_AUDIO_ENDINGS = frozenset({
    ".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".aac", ".adts", ".alac", ".wma", ".asf", ".wv", ".ape",
    ".tta", ".tak", ".shn", ".ofr", ".mpc", ".mp+", ".amr", ".awb", ".3gp", ".3g2", ".3gpp", ".mov",
    ".mkv", ".mka", ".webm", ".weba", ".avi", ".ac3", ".eac3", ".dts", ".dsf", ".dff", ".ra", ".rm",
    ".ram", ".spx", ".qcp", ".gsm", ".vox", ".dss", ".ds2", ".wac",
})
# fmt: on
_FIRST_BYTES = (  # offset, bytes, what they begin
    (4, b"ftyp", "MP4 (m4a, aac, alac or opus in it)"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "True Audio"),
    (0, b"tBaK", "TAK"),
    (0, b"MPCK", "Musepack"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".RMF", "RealMedia"),
    (0, b"\x0b\x77", "AC-3"),
)


def other_kind(head: bytes) -> str | None:
    """The kind of audio that a file's first bytes begin, if it is one that is not decoded here."""
    for offset, magic, what in _FIRST_BYTES:
        if head.startswith(magic, offset):
            return what
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # layer 0 is none of MPEG's
        return "AAC (ADTS)"
    return None
