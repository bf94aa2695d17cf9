// A slice in the grid: spectrogram, axes, whose recording it is, and what the model says.

import { frequencyAxis, timeAxis } from "./axes.js";
import { nameOf } from "./config.js";
import { element } from "./dom.js";
import { icon } from "./icons.js";
import { cell, clock, score } from "./words.js";

const axes = new Map(); // height -> axis to copy

/** A tile without its picture; `actions` are open(place), play(place) and focus(place). */
export function tile(row, place, total, size, actions) {
  const picture = element("div.picture", {}, element("i.cursor", { hidden: true }));
  const plot = element(
    "span.plot",
    {},
    kilohertzAxis(size.height),
    picture,
    timeAxis(row.start_s, row.end_s, ticksIn(size.width)),
  );
  const open = element(
    "button.open",
    {
      type: "button",
      "data-pass-keys": "1",
      tabindex: "-1",
      "aria-label": spoken(row),
      onclick: () => actions.open(place),
      onfocus: () => actions.focus(place),
    },
    plot,
    caption(row),
  );
  const play = element(
    "button.play.quiet",
    { type: "button", tabindex: "-1", "aria-label": "Play", onclick: () => actions.play(place) },
    icon("play"),
  );
  const position = { "aria-posinset": place + 1, "aria-setsize": total };
  return element("li.tile", { ...position, "data-row": row.row }, open, play);
}

/** A tile whose row is not there yet. */
export function placeholder() {
  return element("li.tile.waiting", { "aria-hidden": "true" }, element("span.plot", {}));
}

/** As many seconds as can be read below a picture. */
function ticksIn(width) {
  if (width < 190) return 3;
  return width < 290 ? 4 : 8;
}

function kilohertzAxis(height) {
  if (!axes.has(height)) axes.set(height, frequencyAxis(15 / height));
  return axes.get(height).cloneNode(true);
}

/** Two lines: label; the prediction where it is another, or else the recording. */
function caption(row) {
  const number = score(row.similarity ?? row.class_score ?? row.label_score ?? row.score);
  return element(
    "span.caption",
    {},
    line(element("span.names.label", {}, nameOf(row.primary_label)), number, verdictMark(row)),
    isOther(row) ? predicted(row) : line(element("span.id", {}, row.recording_id)),
  );
}

function line(name, number = "", mark = null) {
  return element("span.line", {}, name, number && element("span.badge", {}, number), mark);
}

function isOther(row) {
  return Boolean(row.predicted) && row.predicted !== row.primary_label;
}

/** A prediction that is a secondary label is no error. */
function predicted(row) {
  const kind = row.secondary_labels?.includes(row.predicted) ? "names" : "names.wrong";
  const name = element(`span.${kind}`, { title: row.recording_id }, `→ ${nameOf(row.predicted)}`);
  return line(name, score(row.score));
}

const MARKS = { yes: "check", no: "no", unsure: "unsure", other: "no", mixed: "unsure" };
const SAID = {
  yes: "reviewed: yes",
  no: "reviewed: no",
  unsure: "reviewed: unsure",
  other: "reviewed: another species",
  mixed: "reviewers differ",
};

function verdictMark(row) {
  const state = row.review?.state ?? "none";
  if (state === "none") return null;
  return element(`span.verdict.${state}`, { title: SAID[state] }, icon(MARKS[state]));
}

function spoken(row) {
  const said = [nameOf(row.primary_label), `${row.recording_id} at ${clock(row.start_s)}`];
  if (row.predicted) said.push(`predicted ${nameOf(row.predicted)}, ${cell(row.score)}`);
  if (row.review && row.review.state !== "none") said.push(SAID[row.review.state]);
  return said.join(", ");
}
