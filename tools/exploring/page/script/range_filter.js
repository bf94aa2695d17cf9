// A histogram with two handles: the range of a number.

import { title } from "./config.js";
import { element } from "./dom.js";
import { limits, setLimits } from "./view.js";
import { cell } from "./words.js";

const STEPS = 1000;

/** `range`: {name, low, high, edges, counts}. */
export function rangeFilter(range) {
  const [low, high] = limits(range.name);
  const share = (text, otherwise) => (text === "" ? otherwise : placeOf(Number(text), range));
  const said = element("p.small.muted.range-text", { "aria-live": "off" });
  const from = handle(`${title(range.name)} from`, share(low, 0), `${range.name}-from`);
  const to = handle(`${title(range.name)} to`, share(high, STEPS), `${range.name}-to`);
  const bars = element("div.bars", { "aria-hidden": "true" }, histogram(range));
  const draw = () => drawRange(range, from, to, bars, said);
  const apply = () => applyRange(range, from, to);
  for (const one of [from, to]) {
    one.addEventListener("input", draw);
    one.addEventListener("change", apply);
  }
  draw();
  return element("div.range", {}, bars, element("div.handles", {}, from, to), said);
}

function handle(label, value, key) {
  return element("input", {
    type: "range",
    min: 0,
    max: STEPS,
    step: 1,
    value,
    "aria-label": label,
    "data-key": key,
  });
}

function histogram(range) {
  const most = Math.max(1, ...range.counts);
  return range.counts.map((number) => {
    const bar = element("i", {});
    bar.style.height = number ? `${6 + (94 * number) / most}%` : "0";
    return bar;
  });
}

function placeOf(value, range) {
  const length = range.high - range.low || 1;
  return Math.round((STEPS * (value - range.low)) / length);
}

function valueAt(place, range) {
  const value = range.low + (place / STEPS) * (range.high - range.low);
  return Number(value.toPrecision(4));
}

function drawRange(range, from, to, bars, said) {
  const [low, high] = [Number(from.value), Number(to.value)];
  [...bars.children].forEach((bar, place) => {
    const middle = ((place + 0.5) / bars.children.length) * STEPS;
    bar.classList.toggle("out", middle < low || middle > high);
  });
  const texts = [valueAt(low, range), valueAt(high, range)].map(cell);
  from.setAttribute("aria-valuetext", texts[0]);
  to.setAttribute("aria-valuetext", texts[1]);
  said.textContent = `${texts[0]} to ${texts[1]}`;
}

function applyRange(range, from, to) {
  const [low, high] = [Number(from.value), Number(to.value)].sort((one, other) => one - other);
  const text = (place, end) => (place === end ? "" : String(valueAt(place, range)));
  setLimits(range.name, text(low, 0), text(high, STEPS));
}
