// Above the grid: the SQL box, the order, the size of the tiles, and what is filtered.

import { go, value } from "./address.js";
import { chips } from "./chips.js";
import { classOptions, config, nameOf, title } from "./config.js";
import { combobox } from "./combobox.js";
import { element, fill } from "./dom.js";
import { exportMenu } from "./exports.js";
import { showFacets } from "./facets.js";
import { icon } from "./icons.js";
import { clearErrors } from "./notices.js";
import { many } from "./words.js";

const NEEDS_CLASS = ["class", "target"];
const ONE_WAY = ["similarity", "class", "target", "wrong", "mislabelled", "random", "query", "row"];
const HIGH_FIRST = new Set(["loss", "max_db", "active_share", "entropy", "score", "mean_db"]);

export class FilterBar {
  #sql = sqlField();
  #tools = element("div.bar-tools", {});
  #chips = element("ul.chips", { "aria-label": "Active filters" });
  #total = element("p.total", { role: "status" });
  #actions;

  /** `actions`: resize(size), random(). */
  constructor(actions) {
    this.#actions = actions;
    const form = element(
      "form.sql.grow",
      { role: "search", onsubmit: (event) => submitSql(event, this.#sql) },
      this.#sql,
      element("button", { type: "submit" }, "Filter"),
    );
    this.root = element(
      "div",
      {},
      element("div.bar", {}, filterButton(), form, this.#tools),
      element("div.bar.facts", {}, this.#total, this.#chips),
    );
  }

  draw() {
    if (document.activeElement !== this.#sql) this.#sql.value = value("where");
    const order = value("view") ? [] : [sortField(), orderDetails()];
    fill(this.#tools, order, sizeField(this.#actions.resize), exportMenu());
    fill(this.#chips, chips());
  }

  showTotal(total) {
    this.#total.textContent = total === null ? "" : many(total, "slice");
  }
}

function sqlField() {
  return element("input.mono", {
    type: "text",
    id: "sql",
    "aria-label": "SQL condition",
    spellcheck: "false",
    autocomplete: "off",
    placeholder: "SQL, such as  max_db > -20 AND rating >= 4",
    maxlength: 8000,
  });
}

function submitSql(event, field) {
  event.preventDefault();
  clearErrors();
  go({ where: field.value.trim() });
}

function filterButton() {
  const onclick = () => showFacets();
  return element(
    "button.narrow",
    { type: "button", id: "show-facets", onclick },
    icon("filter"),
    "Filters",
  );
}

function sortField() {
  const now = value("sort", value("like") ? "similarity" : "row");
  const wanted = config.sorts.filter((name) => name !== "similarity" || value("like"));
  const options = wanted.flatMap((name) => {
    if (ONE_WAY.includes(name)) return [{ name, text: title(name) }];
    const both = [
      { name: `-${name}`, text: `${title(name)}, highest first` },
      { name, text: `${title(name)}, lowest first` },
    ];
    return HIGH_FIRST.has(name) ? both : both.toReversed();
  });
  const onchange = (event) => sortBy(event.target.value);
  const made = options.map(({ name, text }) =>
    element("option", { value: name, selected: name === now }, text),
  );
  return element(
    "label.field",
    {},
    element("span", {}, "Sort"),
    element("select", { id: "sort", onchange }, made),
  );
}

function sortBy(name) {
  const patch = { sort: name === "row" && !value("like") ? null : name };
  if (NEEDS_CLASS.includes(name) && !value("class")) patch.class = config.scored[0];
  if (name === "target" && !value("target")) patch.target = "0.5";
  if (name === "random") patch.seed = String(Math.floor(Math.random() * 1e6));
  go(patch);
}

/** What an order needs: a class and a score, a seed, what neighbours leave out. */
function orderDetails() {
  const sort = value("sort");
  const parts = [];
  if (NEEDS_CLASS.includes(sort)) parts.push(classField());
  if (sort === "target") parts.push(targetField());
  if (sort === "random") parts.push(seedField());
  if (value("like")) parts.push(leaveOutField());
  return parts;
}

function classField() {
  return combobox({
    label: "Class",
    options: () => classOptions({ scored: true }),
    placeholder: nameOf(value("class")),
    onchoose: (label) => go({ class: label }),
  });
}

function targetField() {
  const onchange = (event) => go({ target: event.target.value });
  const limits = { type: "number", min: 0, max: 1, step: 0.05, value: value("target", "0.5") };
  return element(
    "label.field",
    {},
    element("span", {}, "Score"),
    element("input.short", { ...limits, onchange }),
  );
}

function seedField() {
  const onchange = (event) => go({ seed: event.target.value });
  const seed = { type: "number", min: 0, step: 1, value: value("seed", "0"), onchange };
  return element("label.field", {}, element("span", {}, "Seed"), element("input.short", seed));
}

function leaveOutField() {
  const now = value("leave_out", "recording");
  const options = config.leave_out.map((name) =>
    element(
      "option",
      { value: name, selected: name === now },
      name === "none" ? "nothing" : `same ${name}`,
    ),
  );
  const onchange = (event) => go({ leave_out: event.target.value });
  return element(
    "label.field",
    {},
    element("span", {}, "Leave out"),
    element("select", { onchange }, options),
  );
}

function sizeField(resize) {
  const now = localStorage.getItem("melbank.size") ?? "medium";
  const options = ["small", "medium", "large"].map((size) =>
    element("option", { value: size, selected: size === now }, size),
  );
  const onchange = (event) => {
    localStorage.setItem("melbank.size", event.target.value);
    resize(event.target.value);
  };
  return element(
    "label.field",
    {},
    element("span", {}, "Size"),
    element("select", { onchange }, options),
  );
}
