// Counts of scores as bars on a logarithmic scale, with lanes for what is reviewed.

import { element } from "./dom.js";
import { count, many } from "./words.js";

const LANES = ["yes", "no", "unsure"];
const TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1];

/** `told`: {edges, counts, reviewed}; `onpick` gets the score that was clicked. */
export function histogramChart(told, onpick) {
  const most = Math.max(1, ...told.counts);
  const height = (number) => (100 * Math.log1p(number)) / Math.log1p(most);
  const bars = told.counts.map((number, place) => bar(told, number, place, height(number)));
  const onclick = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    onpick(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)));
  };
  const target = element("i.target-line", { "aria-hidden": "true" });
  const plot = element("div.histogram-bars", { onclick }, bars, target);
  const lanes = LANES.map((name) => lane(name, told.reviewed[name]));
  const axis = element("div.histogram-axis", { "aria-hidden": "true" }, TICKS.map(tick));
  const label = `Histogram: ${many(total(told.counts), "slice")}, ${summary(told)}`;
  return element(
    "figure.histogram",
    { role: "group", "aria-label": label },
    element("div.histogram-counts", { "aria-hidden": "true" }, countTicks(most, height)),
    plot,
    lanes.map(({ name, marks }) => [element("div.lane-label", {}, name), marks]),
    axis,
  );
}

function bar(told, number, place, height) {
  const range = `${told.edges[place].toFixed(2)} to ${told.edges[place + 1].toFixed(2)}`;
  const made = element("i", { title: `${range}: ${many(number, "slice")}` });
  made.style.height = `${height}%`;
  return made;
}

function lane(name, counts) {
  const most = Math.max(1, ...counts);
  const marks = counts.map((number) => {
    const mark = element("i", number ? { title: many(number, `reviewed as ${name}`) } : {});
    mark.style.opacity = number ? String(0.35 + (0.65 * number) / most) : "0";
    return mark;
  });
  return {
    name: `${name} ${count(total(counts))}`,
    marks: element(`div.reviewed-lane.${name}`, {}, marks),
  };
}

function tick(place) {
  const made = element("span", {}, place.toFixed(1));
  made.style.left = `${100 * place}%`;
  return made;
}

/** 1, 10, 100 ... at their heights. */
function countTicks(most, height) {
  const ticks = [];
  for (let number = 1; number <= most; number *= 10) {
    const made = element("span", {}, count(number));
    made.style.bottom = `${height(number)}%`;
    ticks.push(made);
  }
  return ticks;
}

function summary(told) {
  return LANES.map((name) => `${total(told.reviewed[name])} reviewed as ${name}`).join(", ");
}

function total(counts) {
  return counts.reduce((sum, number) => sum + number, 0);
}
