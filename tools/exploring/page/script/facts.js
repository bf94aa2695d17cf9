// What is known of a slice: predictions next to labels, metadata, verdicts.

import { config, nameOf, title } from "./config.js";
import { element } from "./dom.js";
import { cell, clock, score } from "./words.js";

const NUMBERS = [
  "loss",
  "margin",
  "entropy",
  "loss_2",
  "margin_2",
  "max_db",
  "mean_db",
  "active_share",
  "centroid_hz",
  "similarity",
  "class_score",
];
const PLACES = ["scientific_name", "site", "date", "time", "author", "fold", "rating", "filename"];

/** The most probable classes as bars; those that are labels are marked. */
export function predictions(row) {
  if (!row.top?.length) return null;
  const given = new Set([row.primary_label, ...(row.secondary_labels ?? [])]);
  const lines = row.top.map(([label, value]) => line(label, value, given.has(label)));
  if (row.primary_label && !row.top.some(([label]) => label === row.primary_label)) {
    lines.push(line(row.primary_label, row.label_score, true));
  }
  const title = element("h3", {}, `Predicted by ${config.experiment}`);
  return element("section", {}, title, element("ul.predictions", {}, lines), second(row));
}

function line(label, value, isGiven) {
  const bar = element("i.share", {});
  bar.style.width = `${100 * (value ?? 0)}%`;
  const mark = isGiven ? element("span.given", {}, "label") : null;
  const name = element("span.name", {}, nameOf(label), " ", mark);
  return element(
    `li${isGiven ? ".is-label" : ""}`,
    {},
    bar,
    name,
    element("span.number", {}, score(value)),
  );
}

/** The prediction of the experiment that is compared. */
function second(row) {
  if (!row.predicted_2) return null;
  return element(
    "p.small",
    {},
    element("span.muted", {}, `${config.compare}: `),
    `${nameOf(row.predicted_2)} ${score(row.score_2)}`,
  );
}

/** Labels as given. */
export function givenLabels(row) {
  const labels = [row.primary_label, ...(row.secondary_labels ?? [])].filter(Boolean);
  const texts = labels.length ? labels.map(nameOf).join(", ") : "none";
  return element("section", {}, element("h3", {}, "Labels"), element("p", {}, texts));
}

/** Columns of the slice and its recording. */
export function facts(row) {
  const lines = [
    ["Recording", row.recording_id],
    ["Time", `${clock(row.start_s)} of ${clock(row.duration_s)}`],
  ];
  for (const name of [...PLACES, ...NUMBERS]) {
    if (isTold(row, name)) lines.push([title(name), cell(row[name])]);
  }
  lines.push(["Row", String(row.row)]);
  const made = lines.map(([name, text]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, text)),
  );
  return element("dl.facts-list", {}, made);
}

/** The file of a recording is told where it is not the recording's own name. */
function isTold(row, name) {
  if (name === "filename" && row.filename?.startsWith(row.recording_id)) return false;
  return row[name] !== null && row[name] !== undefined;
}

export function verdicts(row) {
  const given = row.review?.verdicts ?? [];
  if (!given.length) return null;
  const lines = given.map((one) => {
    const about =
      one.verdict === "other"
        ? `${nameOf(one.other_label)}, not ${nameOf(one.label)}`
        : nameOf(one.label);
    return element(
      "li",
      {},
      element("b", {}, one.verdict),
      ` ${about} `,
      element("span.muted.small", {}, one.annotator),
    );
  });
  return element("section", {}, element("h3", {}, "Verdicts"), element("ul", {}, lines));
}
