// The grid: tiles of the slices that are in sight, whatever their number.

import { element, fill } from "./dom.js";
import { LongScroll } from "./long_scroll.js";
import { Rows } from "./rows.js";
import { PER_SHEET, sheetAddress, showTile } from "./sheets.js";
import { placeholder, tile } from "./tile.js";

const SIZES = { small: 148, medium: 212, large: 330 };
const GAP = 12;
const AXIS = { left: 30, below: 16 };
const CAPTION = 44;
const AHEAD_LINES = 3;

export class Grid {
  #list = element("ul.tiles", { role: "list", "aria-label": "Slices" });
  #spacer = element("div.spacer", {}, this.#list);
  #tiles = new Map(); // place -> element
  #geometry = { columns: 1, width: 0, height: 0, line: 1 };
  #focused = 0;
  #actions;
  #scroll;
  #rows = null;
  #size;
  #drawing = 0;
  #isHolding = false; // focus is in the grid

  /** `actions`: open(place, rows), play(row, tile), changed(rows). */
  constructor(actions, size = "medium") {
    this.#actions = actions;
    this.#size = size;
    this.root = element(
      "div.scroller.grid",
      {
        onkeydown: (event) => this.#key(event),
        onfocusin: () => (this.#isHolding = true),
        onfocusout: () => (this.#isHolding = false),
      },
      this.#spacer,
    );
    this.#scroll = new LongScroll(this.root, this.#spacer, () => this.#draw());
    new ResizeObserver(() => this.#measure()).observe(this.root);
    document.addEventListener("colours", () => this.refresh());
  }

  get rows() {
    return this.#rows;
  }

  /** Shows the slices of a query, from the first one on. */
  show(query) {
    this.#rows?.close();
    this.#rows = new Rows(query, () => this.#loaded());
    this.#focused = 0;
    this.#scroll.moveTo(0);
    this.root.classList.add("pending");
    this.#rows.want(0, 0);
  }

  setSize(size) {
    this.#size = size;
    this.#measure();
  }

  /** Draws all tiles again, as after a verdict or with another colour map. */
  refresh() {
    this.#clear();
    this.#draw();
  }

  /** Brings a place into sight and gives it the focus. */
  focus(place, { isHolding = true } = {}) {
    const total = this.#rows?.total ?? 0;
    if (!total) return;
    this.#focused = Math.max(0, Math.min(place, total - 1));
    const top = Math.floor(this.#focused / this.#geometry.columns) * this.#geometry.line;
    const bottom = top + this.#geometry.line;
    const seen = this.root.clientHeight;
    if (top < this.#scroll.top) this.#scroll.moveTo(top);
    else if (bottom > this.#scroll.top + seen) this.#scroll.moveTo(bottom - seen);
    this.#isHolding = isHolding;
    this.#mark();
  }

  /** The tile of a slice, if it is in sight. */
  tileOf(row) {
    return this.#list.querySelector(`[data-row="${row}"]`);
  }

  #loaded() {
    if (this.root.classList.contains("pending")) this.#clear(); // tiles of the view before
    this.root.classList.remove("pending");
    const total = this.#rows.total ?? 0;
    this.#actions.changed(this.#rows);
    if (total === 0) this.#clear();
    for (const [place, made] of this.#tiles) {
      if (place >= total || made.classList.contains("waiting") || this.#isStale(place)) {
        this.#remove(place);
      }
    }
    this.#scroll.setHeight(Math.ceil(total / this.#geometry.columns) * this.#geometry.line);
  }

  #isStale(place) {
    const row = this.#rows.at(place);
    return row && this.#tiles.get(place).dataset.row !== String(row.row);
  }

  #measure() {
    const width = this.root.clientWidth - 2 * GAP;
    if (width <= 0) return;
    const least = Math.min(SIZES[this.#size], (width - GAP) / (this.#size === "large" ? 1 : 2));
    const columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const tileWidth = (width - GAP * (columns - 1)) / columns;
    const height = Math.round((tileWidth - AXIS.left) * 0.46);
    const first = Math.floor(this.#scroll.top / this.#geometry.line) * this.#geometry.columns;
    const line = height + AXIS.below + CAPTION + GAP;
    this.#geometry = { columns, width: tileWidth, height, line };
    this.#clear();
    this.root.style.setProperty("--plot", `${height}px`);
    this.root.style.setProperty("--tile", `${tileWidth}px`);
    const total = this.#rows?.total ?? 0;
    this.#scroll.setHeight(Math.ceil(total / columns) * line);
    this.#scroll.moveTo(Math.floor(first / columns) * line);
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#drawNow();
    });
  }

  #drawNow() {
    if (!this.#rows || this.#rows.total === 0) return;
    const { columns, line } = this.#geometry;
    const top = this.#scroll.top;
    const low = Math.max(0, Math.floor(top / line) - AHEAD_LINES) * columns;
    const lines = Math.ceil(this.root.clientHeight / line) + 2 * AHEAD_LINES;
    const total = this.#rows.total ?? columns * lines;
    const high = Math.min(total, low + lines * columns);
    for (const place of this.#tiles.keys()) if (place < low || place >= high) this.#remove(place);
    this.#rows.want(low, high - 1);
    for (let place = low; place < high; place += 1) this.#place(place, place - low);
    this.#mark();
  }

  /** Puts a tile where it belongs, and in the order in which it is read aloud. */
  #place(place, number) {
    const { columns, line, width } = this.#geometry;
    const made = this.#tiles.get(place) ?? this.#make(place);
    const left = GAP + (place % columns) * (width + GAP);
    const top = GAP + Math.floor(place / columns) * line + this.#scroll.shift;
    made.style.transform = `translate(${left}px, ${top}px)`;
    const there = this.#list.children[number];
    if (there !== made) this.#list.insertBefore(made, there ?? null);
  }

  #make(place) {
    const row = this.#rows.at(place);
    const actions = {
      open: (at) => this.#actions.open(at, this.#rows),
      play: (at) => this.#play(at),
      focus: (at) => this.#focusedAt(at),
    };
    const made = row ? tile(row, place, this.#rows.total, this.#geometry, actions) : placeholder();
    this.#tiles.set(place, made);
    if (row) this.#showPicture(place, made);
    return made;
  }

  #showPicture(place, made) {
    const first = Math.floor(place / PER_SHEET) * PER_SHEET;
    const rows = [];
    for (let at = first; at < Math.min(first + PER_SHEET, this.#rows.total); at += 1) {
      const row = this.#rows.at(at);
      if (row) rows.push(row.row);
    }
    const url = sheetAddress({ rows });
    showTile(made.querySelector(".picture"), url, place - first, rows.length);
  }

  #play(place) {
    const row = this.#rows.at(place);
    if (row) this.#actions.play(row, this.#tiles.get(place));
  }

  #remove(place) {
    this.#tiles.get(place).remove();
    this.#tiles.delete(place);
  }

  #clear() {
    this.#tiles.clear();
    fill(this.#list);
  }

  #focusedAt(place) {
    this.#focused = place;
    this.#mark();
  }

  /** One tile can be reached by Tab; the others by the arrows. */
  #mark() {
    for (const [place, made] of this.#tiles) {
      const button = made.querySelector(".open");
      if (button) button.tabIndex = place === this.#focused ? 0 : -1;
    }
    const button = this.#tiles.get(this.#focused)?.querySelector(".open");
    if (this.#isHolding && button && document.activeElement !== button) {
      button.focus({ preventScroll: true });
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { columns, line } = this.#geometry;
    const page = Math.max(1, Math.floor(this.root.clientHeight / line)) * columns;
    const last = (this.#rows?.total ?? 1) - 1;
    const moves = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
      PageDown: page,
      PageUp: -page,
      Home: -this.#focused,
      End: last - this.#focused,
    };
    if (event.key === " ") this.#play(this.#focused);
    else if (event.key in moves) this.focus(this.#focused + moves[event.key]);
    else return;
    event.preventDefault();
  }
}
