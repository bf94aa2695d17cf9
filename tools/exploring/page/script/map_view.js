// The map: slices by likeness. A lasso around some of them shows these in the grid.

import { go, value } from "./address.js";
import { chips } from "./chips.js";
import { config, title } from "./config.js";
import { element, fill } from "./dom.js";
import { mapColours } from "./map_colours.js";
import { MapHand } from "./map_hand.js";
import { MapPoints } from "./map_points.js";
import { askPacked, attempt } from "./server.js";
import { sheetAddress } from "./sheets.js";
import { colour } from "./theme.js";
import { isFiltered, viewQuery } from "./view.js";
import { count, many } from "./words.js";

export class MapView {
  #canvas = element("canvas", { tabindex: "0", role: "application" });
  #tip = element("div.map-tip", { hidden: true });
  #wait = element("p.empty", { role: "status" }, "Loading the map");
  #legend = element("div.legend-place", {});
  #said = element("p.muted.small", { role: "status" });
  #chips = element("ul.chips", { "aria-label": "Active filters" });
  #place = element("div.map-place", {}, this.#canvas, this.#tip, this.#wait);
  #points = null;
  #column = null;
  #filters = ""; // that the points were asked for
  #total = "";
  #drawing = 0;
  #hand;

  constructor() {
    this.#hand = new MapHand(this.#canvas, {
      points: () => this.#points,
      redraw: () => this.draw(),
      point: (place) => this.#showTip(place),
      open: (place) => go({ row: this.#points.row[place] }),
      select: (polygon) => this.#select(polygon),
    });
    this.root = element("section.map", { "aria-label": "Map of the slices" });
    new ResizeObserver(() => this.draw()).observe(this.#place);
    document.addEventListener("theme", () => this.draw());
  }

  async show() {
    if (!config.map) {
      fill(this.root, element("p.empty", {}, "There is no map: these slices have no embeddings."));
      return;
    }
    const bar = element("div.bar", {}, columnField(), this.#legend, this.#said, this.#chips);
    fill(this.root, bar, this.#place);
    fill(this.#chips, chips());
    if (!this.#points) await this.#load();
    if (!this.#points) return;
    await Promise.all([this.#colour(value("colour", defaultColumn())), this.#filter()]);
  }

  async #load() {
    const onwait = (told) => {
      const share = told.progress === undefined ? "" : `, ${Math.round(100 * told.progress)} %`;
      this.#wait.textContent = `Computing the map${share}`;
    };
    const told = await attempt(() => askPacked("/api/map", "", { onwait }));
    this.#wait.hidden = Boolean(told);
    if (!told) return;
    this.#points = new MapPoints(told.arrays);
    const { count: number, sampled } = told.header;
    const of = sampled ? `, of ${count(config.num_slices)}` : "";
    this.#total = `${many(number, "slice")}${of}`;
    this.#said.textContent = this.#total;
    this.#canvas.setAttribute("aria-label", `Map of ${many(number, "slice")}. ${KEYS}`);
  }

  /** Makes the slices faint that the filters of the address leave out. */
  async #filter() {
    const query = viewQuery({ order: false });
    const text = isFiltered() ? query.toString() : "";
    if (text === this.#filters) return;
    this.#filters = text;
    const given = { count: this.#points.row.length };
    const told = text && (await attempt(() => askPacked("/api/map/passing", query, given)));
    if (this.#filters !== text) return;
    this.#points.passing = told ? told.arrays.passing : null;
    const number = told ? `${count(told.header.number)} of ` : "";
    this.#said.textContent = `${number}${this.#total}`;
    this.draw();
  }

  async #colour(column) {
    if (column === this.#column) return;
    this.#column = column;
    const told = await attempt(() =>
      askPacked("/api/map/column", { name: column }, { count: this.#points.row.length }),
    );
    if (!told || this.#column !== column) return;
    const { colours, codes, legend } = mapColours(column, told, (code) => this.#pick(code));
    Object.assign(this.#points, { colours, codes, shownCode: null });
    fill(this.#legend, legend);
    this.draw();
  }

  /** Shows one entry of the legend alone; a second press shows all. */
  #pick(code) {
    this.#points.shownCode = this.#points.shownCode === code ? null : code;
    this.#legend
      .querySelectorAll("button")
      .forEach((one, place) =>
        one.setAttribute("aria-pressed", String(place === this.#points.shownCode)),
      );
    this.draw();
  }

  draw() {
    if (this.#drawing || !this.#points) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      const ratio = devicePixelRatio || 1;
      const { clientWidth, clientHeight } = this.#place;
      Object.assign(this.#canvas, { width: clientWidth * ratio, height: clientHeight * ratio });
      if (!clientWidth || !clientHeight) return;
      const context = this.#canvas.getContext("2d", { willReadFrequently: true });
      this.#points.draw(context, ratio);
      this.#hand.draw(context, ratio, colour("ink"));
    });
  }

  #showTip(found) {
    this.#tip.hidden = found === null;
    if (found === null) return;
    const row = this.#points.row[found.place];
    if (this.#tip.dataset.row !== String(row)) {
      this.#tip.dataset.row = row;
      const size = { width: 160, height: 64 };
      const src = sheetAddress({ rows: [row] }, size);
      fill(
        this.#tip,
        element("img", { src, ...size, alt: "" }),
        element("span.small", {}, `row ${row}`),
      );
    }
    const left = Math.min(found.x + 14, this.#place.clientWidth - 180);
    const top = Math.min(found.y + 14, this.#place.clientHeight - 104);
    this.#tip.style.transform = `translate(${left}px, ${top}px)`;
  }

  #select(polygon) {
    const number = this.#points.countInside(polygon);
    if (number === 0) {
      this.#said.textContent = "No slice is inside.";
      return;
    }
    const text = polygon
      .flat()
      .map((one) => Number(one.toPrecision(6)))
      .join(",");
    go({ view: null, polygon: text, colour: null });
  }
}

const KEYS = "Arrows move, plus and minus zoom, Enter takes the slices in sight to the grid.";

/** Species where they are known. */
function defaultColumn() {
  const columns = config.map_columns;
  return columns.includes("primary_label") ? "primary_label" : columns[0];
}

/** Columns that people look at come first. */
const FIRST = [
  "primary_label",
  "predicted",
  "score",
  "loss",
  "outcome",
  "fold",
  "site",
  "date",
  "author",
  "active_share",
  "max_db",
];

function columnField() {
  const now = value("colour", defaultColumn());
  const known = FIRST.filter((name) => config.map_columns.includes(name));
  const columns = new Set([...known, ...config.map_columns]);
  const options = [...columns].map((name) =>
    element("option", { value: name, selected: name === now }, title(name)),
  );
  const onchange = (event) => go({ colour: event.target.value });
  return element(
    "label.field",
    {},
    element("span", {}, "Colour"),
    element("select", { onchange }, options),
  );
}
