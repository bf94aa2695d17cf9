// How far the review is: verdicts by person and species, and how often people agree.

import { nameOf } from "./config.js";
import { element } from "./dom.js";
import { exportLinks, trainLink } from "./exports.js";
import { count, many } from "./words.js";

const VERDICTS = ["yes", "no", "unsure", "other"];

/** `told`: the answer of /api/reviews/progress. */
export function progressReport(told) {
  if (!told.verdicts) {
    return element(
      "section",
      {},
      element("h2", {}, "So far"),
      element("p.muted", {}, "No verdict yet."),
    );
  }
  const { shared, same } = told.agreement;
  const agreed = shared
    ? `People agree on ${count(same)} of ${many(shared, "item")} that several of them have judged.`
    : "No item has been judged by several people.";
  const items = `${many(told.items, "item")} of ${many(told.recordings, "recording")}`;
  const facts = `${many(told.verdicts, "verdict")} on ${items}.`;
  return element(
    "section.progress",
    {},
    element("h2", {}, "So far"),
    element("p", {}, facts, " ", agreed),
    element(
      "div.tables",
      {},
      table("Person", told.annotators, (one) => one.annotator),
      table("Species", told.labels, (one) => nameOf(one.label)),
    ),
    element(
      "div.links",
      {},
      element("h3", {}, "Export the verdicts"),
      exportLinks("reviews"),
      trainLink(),
    ),
  );
}

function table(title, lines, name) {
  const head = [title, ...VERDICTS].map((text, place) =>
    element(place ? "th.number" : "th", { scope: "col" }, text),
  );
  const body = lines.map((one) => {
    const cells = VERDICTS.map((verdict) =>
      element("td.number", {}, one[verdict] ? count(one[verdict]) : ""),
    );
    return element("tr", {}, element("th", { scope: "row" }, name(one)), cells);
  });
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, body),
  );
}
