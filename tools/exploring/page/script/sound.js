// Addresses of sounds, and where in the recording each begins.

import { address } from "./server.js";

/** The sound of a row, of a detection, or of a whole recording: {row: 7}. */
export function soundAddress(of) {
  return address("/api/audio", of);
}

/** Moves a cursor with the sound; `start_s` to `end_s` is what the picture shows. */
export function followSound(player, cursor, { source, offset_s = 0, start_s, end_s }) {
  const draw = () => {
    const isOurs = player.source === source() && (player.isPlaying || player.time_s > 0);
    const place = (player.time_s + offset_s - start_s) / (end_s - start_s);
    cursor.hidden = !isOurs || place < 0 || place > 1;
    cursor.style.left = `${place * 100}%`;
  };
  draw();
  return player.listen(draw);
}
