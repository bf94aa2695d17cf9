// Axes of spectrograms: kHz on a mel scale, seconds of the recording.

import { config } from "./config.js";
import { element } from "./dom.js";
import { kilohertz } from "./words.js";

const TICKS_HZ = [64e3, 32e3, 16e3, 8e3, 4e3, 2e3, 1e3, 500, 250, 125];
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

/** Share of the height, from the top, at which a frequency is; outside 0 to 1 where it is not. */
function placeOfFrequency(hz) {
  const bands = config.bands_hz;
  const high = bands.findIndex((band) => band >= hz);
  if (high === 0) return hz < config.fmin_hz ? 2 : 1;
  if (high < 0) return hz <= config.fmax_hz ? 0 : -1;
  const within = (hz - bands[high - 1]) / (bands[high] - bands[high - 1]);
  return 1 - (high - 0.5 + within) / bands.length;
}

/** Frequencies worth a tick, at least `least` (a share of the height) apart. */
function frequencyTicks(least) {
  const ticks = [];
  let free = -least;
  for (const hz of TICKS_HZ) {
    const place = placeOfFrequency(hz);
    if (place < 0 || place > 1 || place - free < least) continue;
    ticks.push({ place, text: kilohertz(hz) });
    free = place;
  }
  return ticks;
}

/** Times worth a tick between two times, at most `most` of them. */
export function timeTicks(start_s, end_s, most) {
  const length_s = end_s - start_s;
  const step = STEPS_S.find((one) => length_s / one <= most) ?? STEPS_S.at(-1);
  const ticks = [];
  for (let at = Math.ceil(start_s / step - 1e-6); at * step <= end_s + 1e-6; at += 1) {
    ticks.push({ place: (at * step - start_s) / length_s, seconds: at * step });
  }
  return ticks;
}

/** The axis on the left, with its unit. */
export function frequencyAxis(least) {
  const ticks = frequencyTicks(least).map(({ place, text }) => {
    const tick = element("span", {}, text);
    tick.style.top = `${place * 100}%`;
    return tick;
  });
  return element("div.khz", { "aria-hidden": "true" }, ticks, element("b", {}, "kHz"));
}

/** The axis below, in seconds of the recording. */
export function timeAxis(start_s, end_s, most) {
  const ticks = timeTicks(start_s, end_s, most).map(({ place, seconds }) => {
    const tick = element("span", {}, label(seconds));
    tick.style.left = `${place * 100}%`;
    if (place > 0.94) tick.classList.add("last");
    if (place < 0.04) tick.classList.add("first");
    return tick;
  });
  return element("div.seconds", { "aria-hidden": "true" }, ticks);
}

/** "7.5 s" below a minute, "2:05" above. */
function label(seconds) {
  const rounded = Math.round(seconds * 10) / 10;
  if (rounded < 60) return `${rounded} s`;
  const minutes = Math.floor(rounded / 60);
  return `${minutes}:${String(Math.round((rounded % 60) * 10) / 10).padStart(2, "0")}`;
}
