// Scores of one class: how they are spread, which are reviewed, and slices at a chosen score.

import { go, value } from "./address.js";
import { classOptions, config, nameOf } from "./config.js";
import { combobox } from "./combobox.js";
import { element, fill } from "./dom.js";
import { histogramChart } from "./histogram.js";
import { ask, attempt } from "./server.js";
import { viewQuery, withParts } from "./view.js";

const BINS = 50;

export class ScoresView {
  #chart = element("div.chart-place", {});
  #head = element("div.bar", {});
  #key = null;

  constructor() {
    this.root = element(
      "section.chart",
      { "aria-label": "Scores of a class" },
      this.#head,
      this.#chart,
    );
  }

  /** The slices to show below: those whose score is nearest to the target. */
  query() {
    const parts = { sort: "target", class: label(), target: value("target", "0.5") };
    return withParts(viewQuery(), parts);
  }

  async draw({ force = false } = {}) {
    if (!config.scored.length) {
      fill(this.#chart, element("p.empty", {}, NO_SCORES));
      return;
    }
    fill(this.#head, classField(), targetField());
    const filters = viewQuery({ order: false });
    const query = withParts(filters, { class: label(), bins: BINS });
    if (query.toString() === this.#key && !force) {
      this.#mark();
      return;
    }
    this.#key = query.toString();
    const told = await attempt(() => ask("/api/histogram", query));
    if (!told || query.toString() !== this.#key) return;
    fill(
      this.#chart,
      histogramChart(told, (target) => go({ target: target.toFixed(2) })),
    );
    this.#mark();
  }

  #mark() {
    const line = this.#chart.querySelector(".target-line");
    if (line) line.style.left = `${100 * Number(value("target", "0.5"))}%`;
  }
}

const NO_SCORES =
  "There are no scores: start the page with explore.experiment=exp_001 to see those of " +
  "an experiment.";

function label() {
  return value("class") || config.scored[0];
}

function classField() {
  const field = combobox({
    label: "Class",
    options: () => classOptions({ scored: true }),
    placeholder: "Another class",
    onchoose: (one) => go({ class: one }),
  });
  return element("div.with-label", {}, element("h2", {}, nameOf(label())), field);
}

function targetField() {
  const now = value("target", "0.5");
  const said = element("output", {}, Number(now).toFixed(2));
  const attributes = {
    type: "range",
    id: "target",
    min: 0,
    max: 1,
    step: 0.01,
    value: now,
    "aria-label": "Score",
    oninput: (event) => (said.textContent = Number(event.target.value).toFixed(2)),
    onchange: (event) => go({ target: event.target.value }),
  };
  return element(
    "label.field",
    {},
    element("span", {}, "Slices nearest to the score"),
    element("input", attributes),
    said,
  );
}
