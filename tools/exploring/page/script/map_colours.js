// Colours of the map by a column, and their legend.

import { nameOf, title } from "./config.js";
import { element } from "./dom.js";
import { categoryColour, MOST_CATEGORIES, numberColour, OTHERS } from "./palette.js";
import { cell } from "./words.js";

const STEPS = 64;
const NO_VALUE = 65_535;
const LABELS = new Set(["primary_label", "predicted"]);

/** {colours, codes, legend} of a column's packed answer. */
export function mapColours(column, { header, arrays }, onpick) {
  if (header.kind === "text") return ofTexts(column, header.values, arrays.code, onpick);
  return ofNumbers(column, header, arrays.value);
}

function ofTexts(column, values, code, onpick) {
  const shown = Math.min(values.length, MOST_CATEGORIES);
  const colours = [...Array(shown).keys()].map(categoryColour);
  const hasOthers = values.length > shown;
  colours.push(OTHERS);
  const codes = code.map((one) => (one < shown ? one : shown));
  const names = values.slice(0, shown).map((one) => (LABELS.has(column) ? nameOf(one) : one));
  const entries = names.map((name, place) => entry(colours[place], name, () => onpick(place)));
  if (hasOthers || code.includes(NO_VALUE)) {
    entries.push(entry(OTHERS, hasOthers ? "others" : "none", () => onpick(shown)));
  }
  return { colours, codes, legend: element("ul.legend", { "aria-label": title(column) }, entries) };
}

function entry(colour, name, onclick) {
  const mark = element("i.mark", {});
  mark.style.background = colour;
  const attributes = { type: "button", "aria-pressed": "false", onclick };
  return element("li", {}, element("button.quiet.legend-entry", attributes, mark, name));
}

function ofNumbers(column, { low, high }, value) {
  const colours = Array.from({ length: STEPS }, (_, step) => numberColour(step / (STEPS - 1)));
  colours.push(OTHERS);
  const length = high - low || 1;
  const codes = Uint16Array.from(value, (one) =>
    Number.isNaN(one) ? STEPS : Math.round(((one - low) / length) * (STEPS - 1)),
  );
  const legend = element(
    "div.scale",
    {},
    element("span", {}, cell(low)),
    element("i.gradient", {}),
    element("span", {}, cell(high)),
  );
  return { colours, codes, legend };
}
