// The slices of a view, loaded by pages as they are wanted.

import { ask } from "./server.js";
import { showError } from "./notices.js";

const PAGE = 120;
const KEPT_PAGES = 80;

export class Rows {
  #query;
  #pages = new Map(); // number -> rows, in the order of their use
  #pending = new Map(); // number -> AbortController
  #onchange;

  /** `onchange` is called when the total is known and after each page. */
  constructor(query, onchange) {
    this.#query = query;
    this.#onchange = onchange;
    this.total = null;
  }

  get query() {
    return this.#query;
  }

  /** The row at a place, undefined while it is not there. */
  at(place) {
    return this.#pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  }

  /** The place of a slice among those that are loaded, or -1. */
  placeOf(row) {
    for (const [page, rows] of this.#pages) {
      const found = rows.findIndex((one) => one.row === row);
      if (found >= 0) return page * PAGE + found;
    }
    return -1;
  }

  /** Loads what is between two places; what else is on its way is given up. */
  want(first, last) {
    const low = Math.floor(Math.max(0, first) / PAGE);
    const high = Math.floor(Math.max(0, last) / PAGE);
    for (const [page, abort] of this.#pending) if (page < low || page > high) abort.abort();
    for (let page = low; page <= high; page += 1) {
      const isBeyond = this.total !== null && page * PAGE >= this.total;
      if (!this.#pages.has(page) && !this.#pending.has(page) && !isBeyond) this.#load(page);
    }
  }

  /** The row at a place, loaded if need be; undefined where there is none. */
  async get(place) {
    if (place < 0 || (this.total !== null && place >= this.total)) return undefined;
    if (!this.at(place)) await this.#load(Math.floor(place / PAGE));
    return this.at(place);
  }

  /** Ends what is on its way. */
  close() {
    for (const abort of this.#pending.values()) abort.abort();
    this.#onchange = () => {};
  }

  async #load(page) {
    const abort = new AbortController();
    this.#pending.set(page, abort);
    const query = new URLSearchParams(this.#query);
    query.set("start", page * PAGE);
    query.set("count", PAGE);
    try {
      const told = await ask("/api/rows", query, { signal: abort.signal });
      this.#keep(page, told);
    } catch (error) {
      if (error.name !== "AbortError") {
        this.total ??= 0;
        showError(error);
        this.#onchange();
      }
    } finally {
      if (this.#pending.get(page) === abort) this.#pending.delete(page);
    }
  }

  #keep(page, told) {
    this.total = told.total;
    this.#pages.set(page, told.rows);
    if (this.#pages.size > KEPT_PAGES) this.#pages.delete(this.#pages.keys().next().value);
    this.#onchange();
  }
}
