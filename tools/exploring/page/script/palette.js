// Colours of categories and numbers that the colour-blind can tell apart.

/** Okabe and Ito's, without black, and two more of other lightness. */
const CATEGORIES = [
  "#0072b2",
  "#e69f00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#d55e00",
  "#7a5195",
  "#b7a700",
  "#00b8a9",
  "#8c564b",
];
export const OTHERS = "#8b9096";
export const MOST_CATEGORIES = CATEGORIES.length;

/** Viridis at equal steps: perceptually uniform. */
const VIRIDIS = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 73, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [110, 206, 88],
  [181, 222, 43],
  [253, 231, 37],
];

export function categoryColour(place) {
  return place < CATEGORIES.length ? CATEGORIES[place] : OTHERS;
}

/** The colour of a number between 0 and 1. */
export function numberColour(share) {
  const place = Math.max(0, Math.min(share, 1)) * (VIRIDIS.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, VIRIDIS.length - 1);
  const mixed = VIRIDIS[low].map((one, part) => one + (VIRIDIS[high][part] - one) * (place - low));
  return `rgb(${mixed.map(Math.round).join(" ")})`;
}

/** The parts of "#rrggbb" or "rgb(r g b)", 0 to 255. */
export function parts(text) {
  if (text.startsWith("#")) {
    return [1, 3, 5].map((place) => Number.parseInt(text.slice(place, place + 2), 16));
  }
  return text.match(/\d+/g).slice(0, 3).map(Number);
}
