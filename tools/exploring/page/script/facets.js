// Filters by click: values of columns with their counts, and ranges of numbers.

import { nameOf, outcomeName, title } from "./config.js";
import { element, fill, find } from "./dom.js";
import { icon } from "./icons.js";
import { matching } from "./combobox.js";
import { rangeFilter } from "./range_filter.js";
import { ask, attempt } from "./server.js";
import { chosen, clearFilters, isFiltered, limits, toggle, viewQuery } from "./view.js";
import { count } from "./words.js";

const SHOWN = 8;
const SEARCHED = 12; // values from which on there is a search field
const OPEN = new Set([
  "primary_label",
  "fold",
  "site",
  "review",
  "outcome",
  "score",
  "active_share",
]);
const FIRST = ["score", "loss", "active_share"]; // ranges that people ask for most
const LABELS = new Set(["primary_label", "predicted"]);

export class Facets {
  #root = find("#facets");
  #folded = new Map(); // name -> is open
  #typed = new Map(); // name -> text of the search field
  #key = null;
  #abort = null;
  #told = null;

  /** Reads the counts of the view again if its filters are others. */
  async refresh({ force = false } = {}) {
    const query = viewQuery({ order: false });
    const key = query.toString();
    if (key === this.#key && !force) return;
    this.#key = key;
    this.#abort?.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const told = await attempt(() => ask("/api/facets", query, { signal }));
    if (!told || key !== this.#key) return;
    this.#told = told;
    this.#draw();
  }

  #draw() {
    const focus = document.activeElement?.dataset?.key;
    const parts = [
      ...this.#told.facets.filter(isTelling).map((facet) => this.#facet(facet)),
      ...inOrder(this.#told.ranges).map((range) => this.#range(range)),
    ];
    fill(this.#root, heading(), parts);
    if (focus) find(`[data-key="${CSS.escape(focus)}"]`, this.#root)?.focus();
  }

  #section(name, isChosen, ...content) {
    const isOpen = this.#folded.get(name) ?? (isChosen || OPEN.has(name));
    const ontoggle = (event) => this.#folded.set(name, event.target.open);
    const summary = element("summary", {}, element("h3", {}, title(name)), icon("next"));
    return element("details.facet", { open: isOpen, ontoggle }, summary, ...content);
  }

  #facet(facet) {
    const picked = chosen(facet.name);
    const options = facet.values.map((one) => ({
      ...one,
      value: String(one.value),
      text: named(facet.name, one),
    }));
    if (facet.none) options.push({ value: "", count: facet.none, text: "none" });
    const list = element("ul", {});
    const most = Math.max(1, ...options.map((one) => one.count));
    const draw = () => {
      const typed = this.#typed.get(facet.name) ?? "";
      const found = typed ? matching(options, typed) : this.#few(facet.name, options, picked);
      fill(
        list,
        found.map((one) => valueButton(facet.name, one, picked, most)),
        this.#more(facet, options, typed, draw),
      );
    };
    draw();
    return this.#section(facet.name, picked.length > 0, this.#search(facet, options, draw), list);
  }

  #search(facet, options, draw) {
    if (options.length < SEARCHED) return null;
    const oninput = (event) => {
      this.#typed.set(facet.name, event.target.value);
      draw();
    };
    return element("input.find", {
      type: "search",
      placeholder: `Find in ${count(options.length + facet.more)}`,
      oninput,
      "aria-label": `Find in ${title(facet.name)}`,
      value: this.#typed.get(facet.name) ?? "",
      "data-key": `find-${facet.name}`,
      spellcheck: "false",
    });
  }

  /** The most frequent values, and all that are chosen. */
  #few(name, options, picked) {
    if (this.#folded.get(`all ${name}`)) return options;
    const first = options.slice(0, SHOWN);
    return [...first, ...options.slice(SHOWN).filter((one) => picked.includes(one.value))];
  }

  #more(facet, options, typed, draw) {
    const name = `all ${facet.name}`;
    if (typed || options.length <= SHOWN) return null;
    const isAll = this.#folded.get(name);
    const onclick = () => {
      this.#folded.set(name, !isAll);
      draw();
    };
    const text = isAll ? "fewer" : `${count(options.length - SHOWN)} more`;
    return element("li", {}, element("button.quiet.more", { type: "button", onclick }, text));
  }

  #range(range) {
    const isChosen = limits(range.name).some((one) => one !== "");
    return this.#section(range.name, isChosen, rangeFilter(range));
  }
}

/** Ranges that have values, the most wanted first. */
function inOrder(ranges) {
  const known = ranges.filter((one) => one.low !== null);
  const first = FIRST.map((name) => known.find((one) => one.name === name)).filter(Boolean);
  return [...first, ...known.filter((one) => !first.includes(one))];
}

/** On narrow screens the filters are in front of the slices, or away. */
export function showFacets(isShown = !find("#facets").classList.contains("shown")) {
  find("#facets").classList.toggle("shown", isShown);
}

function heading() {
  const clear = { type: "button", onclick: clearFilters, hidden: !isFiltered() };
  return element(
    "div.facets-head",
    {},
    element("h2", {}, "Filters"),
    element("button.quiet", clear, "Clear all"),
    element("button.narrow", { type: "button", onclick: () => showFacets(false) }, "Done"),
  );
}

/** False where all slices have the same value, and nothing can be chosen. */
function isTelling(facet) {
  return facet.values.length + (facet.none ? 1 : 0) > 1 || chosen(facet.name).length > 0;
}

function named(name, one) {
  if (one.name) return one.name;
  if (name === "outcome") return outcomeName(one.value);
  return LABELS.has(name) ? nameOf(one.value) : String(one.value);
}

function valueButton(name, one, picked, most) {
  const bar = element("i.share", {});
  bar.style.width = `${(100 * one.count) / most}%`;
  const attributes = {
    type: "button",
    "aria-pressed": String(picked.includes(one.value)),
    "data-key": `${name}:${one.value}`,
    onclick: () => toggle(name, one.value),
  };
  const texts = [element("span.value", {}, one.text), element("span.count", {}, count(one.count))];
  return element("li", {}, element("button.facet-value", attributes, bar, texts));
}
