// Links that save what is shown.

import { config } from "./config.js";
import { element } from "./dom.js";
import { icon } from "./icons.js";
import { address } from "./server.js";
import { viewQuery } from "./view.js";

const FORMATS = {
  csv: "CSV",
  parquet: "Parquet",
  raven: "Raven table",
  audacity: "Audacity tracks",
};

/** A menu of links; the addresses are those of the moment when it is opened. */
export function exportMenu() {
  const list = element("div.menu-list", {});
  const ontoggle = (event) => {
    if (event.target.open) list.replaceChildren(...groups());
  };
  const onkeydown = (event) => {
    if (event.key !== "Escape") return;
    event.currentTarget.open = false;
    event.stopPropagation();
  };
  const summary = element("summary.button", { id: "export" }, icon("down"), "Export");
  return element("details.menu", { ontoggle, onkeydown }, summary, list);
}

function groups() {
  const made = [group("These slices", { what: "view" }, viewQuery())];
  made.push(group("Verdicts", { what: "reviews" }, ""));
  if (config.detections !== null) made.push(group("Detections", { what: "detections" }, ""));
  const train = link("Corrected train.csv", { what: "train" }, "");
  made.push(element("div", {}, element("h3", {}, "Labels"), train));
  return made;
}

export function exportLinks(what) {
  return Object.entries(FORMATS).map(([format, text]) => link(text, { what, format }, ""));
}

export function trainLink() {
  return link("Corrected train.csv", { what: "train" }, "");
}

function group(title, parts, query) {
  const links = Object.entries(FORMATS).map(([format, text]) =>
    link(text, { ...parts, format }, query),
  );
  return element("div", {}, element("h3", {}, title), links);
}

function link(text, parts, query) {
  const whole = new URLSearchParams(query);
  for (const [name, one] of Object.entries(parts)) whole.set(name, one);
  return element("a", { href: address("/api/export", whole), download: "" }, text);
}
