// Thumbnails, many in one picture: one request for a run of tiles.

import { config } from "./config.js";
import { address } from "./server.js";

export const PER_SHEET = 24;
const TILE = { width: 256, height: 104 };
const KEPT = 60;
const COLOUR = "melbank.colour";
const sheets = new Map(); // url -> Promise of an image

/** The colour map that was chosen on this machine. */
export function colourMap() {
  const chosen = localStorage.getItem(COLOUR);
  return config.colours.includes(chosen) ? chosen : config.colours[0];
}

export function setColourMap(name) {
  localStorage.setItem(COLOUR, name);
  document.dispatchEvent(new Event("colours"));
}

/** Address of one picture of several tiles: {rows: [...]} or {upload: id}. */
export function sheetAddress(of, size = TILE) {
  const query = { ...size, colour: colourMap(), v: config.store_id };
  if (of.rows) query.rows = of.rows.join(",");
  if (of.upload) query.upload = of.upload;
  return address("/api/sheet", query);
}

export function spectrogramAddress(of) {
  return address("/api/spectrogram", { ...of, colour: colourMap(), v: config.store_id });
}

/** Loads a picture before it is shown, so that nothing flickers. */
function loadSheet(url) {
  if (!sheets.has(url)) {
    const image = new Image();
    image.src = url;
    const loading = image.decode().then(
      () => image,
      () => {
        sheets.delete(url);
        return null;
      },
    );
    sheets.set(url, loading);
    if (sheets.size > KEPT) sheets.delete(sheets.keys().next().value);
  }
  return sheets.get(url);
}

/** Shows tile number `place` of `count` in an element. */
export async function showTile(target, url, place, count) {
  target.dataset.sheet = url;
  const image = await loadSheet(url);
  if (target.dataset.sheet !== url) return;
  if (!image) {
    target.classList.add("failed");
    return;
  }
  target.style.backgroundImage = `url("${url}")`;
  target.style.backgroundSize = `100% ${count * 100}%`;
  target.style.backgroundPosition = `0 ${count > 1 ? (place / (count - 1)) * 100 : 0}%`;
  target.classList.add("ready");
}
