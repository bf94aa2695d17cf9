// Numbers, times and names as people read them.

const counts = new Intl.NumberFormat("en-GB");

export function count(number) {
  return counts.format(number);
}

/** "1 slice", "2,000 slices". */
export function many(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** A probability: three digits, as 0.993. */
export function score(number) {
  return number === null || number === undefined ? "" : number.toFixed(3);
}

/** Seconds of a recording: 7.5 s, 1:02.5, 1:00:00. */
export function clock(seconds) {
  if (seconds < 60) return `${trimmed(seconds)} s`;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const rest = trimmed(seconds % 60);
  const padded = Number(rest) < 10 ? `0${rest}` : rest;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}

function trimmed(seconds) {
  return String(Math.round(seconds * 10) / 10);
}

/** A frequency without its unit: 500 Hz is 0.5, 8000 Hz is 8. */
export function kilohertz(hz) {
  return String(Math.round(hz / 10) / 100);
}

/** A value of a table's cell as short text. */
export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") {
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  }
  return Array.isArray(value) ? value.map(cell).join(", ") : String(value);
}
