"""A recording that is read in sequence, from its beginning or from any frame on."""

from typing import Any

import soundfile

from storage.audio.c_stderr import quiet_c_stderr

LEAD_FRAMES = 1 << 16  # decoded before the first frame of a compressed stream


class SoundStream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read in sequence, without words from C libraries.

    The parent asks for the position and sets it around every read, where a file can seek. After
    damage and in mp3 that changes what is read next, and it can double the time.
    """

    def __init__(self, where: Any) -> None:
        with quiet_c_stderr():
            super().__init__(where)

    def read(self, *args: Any, **options: Any) -> Any:
        with quiet_c_stderr():
            return super().read(*args, **options)

    def seekable(self) -> bool:
        return False

    def go_to(self, frame: int) -> None:
        """Goes to a frame, before anything is read. Compressed streams are decoded from earlier on.

        After a seek into the last page of an ogg stream, libsndfile 1.2 gives frames of another
        place, and the first frames of an mp3 lack what those before them have left. Raises
        LibsndfileError where the file is damaged.
        """
        lead = 0 if self.subtype.startswith("PCM") else min(frame, LEAD_FRAMES)
        if frame > lead:
            self.seek(frame - lead)
        self.read(lead, dtype="float32")
