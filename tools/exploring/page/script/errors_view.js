// Predictions next to labels, errors first; two experiments compared.

import { config, nameOf } from "./config.js";
import { element, fill } from "./dom.js";
import { ask, attempt } from "./server.js";
import { chosen, toggle, viewQuery, withParts } from "./view.js";
import { count, score } from "./words.js";

export class ErrorsView {
  #head = element("div.chart-place", {});
  #told = null;

  constructor() {
    this.root = element("section.chart", { "aria-label": "Errors" }, this.#head);
  }

  /** Slices whose prediction is no label come first, those with the highest loss at the top. */
  query() {
    return withParts(viewQuery(), config.sorts.includes("wrong") ? { sort: "wrong" } : {});
  }

  async draw() {
    if (!config.experiment) {
      fill(this.#head, element("p.empty", {}, NO_EXPERIMENT));
      return;
    }
    if (config.compare && !this.#told) this.#told = await attempt(() => ask("/api/compare"));
    if (this.#told) fill(this.#head, outcomes(this.#told), classes(this.#told));
    else
      fill(
        this.#head,
        element("p.bar.muted", {}, `Predictions of ${config.experiment}, errors first by loss.`),
      );
  }
}

const NO_EXPERIMENT =
  "There are no predictions: start the page with explore.experiment=exp_001, and with " +
  "explore.compare=exp_002 to compare two.";

/** Who is right, as four filters. */
function outcomes(told) {
  const names = {
    both: "both right",
    first: `only ${told.first} right`,
    second: `only ${told.second} right`,
    neither: "neither right",
  };
  const picked = chosen("outcome");
  const buttons = Object.entries(names).map(([name, text]) => {
    const attributes = {
      type: "button",
      "aria-pressed": String(picked.includes(name)),
      onclick: () => toggle("outcome", name),
    };
    return element(
      "button.outcome",
      attributes,
      element("b", {}, count(told.outcomes[name])),
      text,
    );
  });
  return element("div.bar.outcomes", {}, buttons);
}

function classes(told) {
  const lines = told.classes.toSorted((one, other) => gain(one) - gain(other)).map(line);
  const head = [
    "Class",
    "Slices",
    `${told.first} right`,
    `${told.second} right`,
    "Change",
    "Loss",
    "Loss",
  ];
  const cells = head.map((text, place) =>
    element(place ? "th.number" : "th", { scope: "col" }, text),
  );
  const all = element(
    "tr.all",
    {},
    element("th", { scope: "row" }, "all"),
    number(count(told.slices)),
    number(percent(told.first_scores.accuracy)),
    number(percent(told.second_scores.accuracy)),
    number(signed(told.second_scores.accuracy - told.first_scores.accuracy)),
    number(score(told.first_scores.mean_loss)),
    number(score(told.second_scores.mean_loss)),
  );
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, cells)),
    element("tbody", {}, all, lines),
  );
  const summary = element("summary.button", {}, `By class, ${told.first} and ${told.second}`);
  return element(
    "details.by-class",
    {},
    summary,
    element("div.table-scroll", { tabindex: "0" }, table),
  );
}

function gain(one) {
  return (one.second_accuracy ?? 0) - (one.first_accuracy ?? 0);
}

function line(one) {
  const onclick = () => toggle("primary_label", one.label);
  const name = element("button.quiet.class-name", { type: "button", onclick }, nameOf(one.label));
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    number(count(one.slices)),
    number(percent(one.first_accuracy)),
    number(percent(one.second_accuracy)),
    number(signed(gain(one))),
    number(score(one.first_loss)),
    number(score(one.second_loss)),
  );
}

function number(text) {
  return element("td.number", {}, text);
}

function percent(share) {
  return share === null || share === undefined ? "" : `${(100 * share).toFixed(1)} %`;
}

function signed(share) {
  const text = (100 * share).toFixed(1);
  return share > 0 ? `+${text}` : text.replace("-", "−");
}
