// The active filters, each a button that removes it.

import { address, go, value } from "./address.js";
import { nameOf, outcomeName, title } from "./config.js";
import { element } from "./dom.js";
import { icon } from "./icons.js";
import { setLimits, toggle } from "./view.js";
import { cell } from "./words.js";

/** A button for each filter, as entries of a list. */
export function chips() {
  const made = [];
  if (value("where")) made.push(chip("SQL", value("where"), () => go({ where: null })));
  for (const term of address().getAll("is")) {
    const column = term.slice(0, term.indexOf(":"));
    const text = term.slice(column.length + 1);
    made.push(chip(title(column), shown(column, text), () => toggle(column, text)));
  }
  for (const term of address().getAll("range")) {
    const [column, low, high] = term.split(":");
    made.push(chip(title(column), limitsText(low, high), () => setLimits(column, "", "")));
  }
  if (value("polygon")) made.push(chip("Map", "lasso", () => go({ polygon: null })));
  if (value("like")) made.push(likeChip());
  return made;
}

function shown(column, text) {
  if (text === "") return "none";
  if (column === "outcome") return outcomeName(text);
  return ["primary_label", "predicted"].includes(column) ? nameOf(text) : text;
}

function limitsText(low, high) {
  if (low === "") return `at most ${cell(Number(high))}`;
  if (high === "") return `at least ${cell(Number(low))}`;
  return `${cell(Number(low))} to ${cell(Number(high))}`;
}

function likeChip() {
  const [kind, ...rest] = value("like").split(":");
  const text = {
    row: `slice ${rest.join(":")}`,
    recording: rest.join(":"),
    upload: "the dropped file",
  }[kind];
  return chip("Sounds like", text, () => go({ like: null, leave_out: null, sort: null }));
}

function chip(name, text, onclick) {
  const label = `Remove the filter ${name}: ${text}`;
  const words = [element("span.muted", {}, name), element("span.chip-text", {}, text)];
  return element(
    "li",
    {},
    element("button.chip", { type: "button", "aria-label": label, onclick }, words, icon("close")),
  );
}
