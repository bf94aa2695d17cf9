// Filters and order of the slices that are shown, as the server takes them.

import { address, go } from "./address.js";

const FILTERS = ["where", "is", "range", "polygon", "like", "leave_out"];
const ORDER = ["sort", "seed", "class", "target"];

/** The part of the address that says which slices, and in which order. */
export function viewQuery({ order = true } = {}) {
  const known = new Set(order ? [...FILTERS, ...ORDER] : FILTERS);
  const query = new URLSearchParams();
  for (const [name, text] of address()) if (known.has(name)) query.append(name, text);
  return query;
}

/** A view with some parts replaced. */
export function withParts(query, parts) {
  const next = new URLSearchParams(query);
  for (const [name, text] of Object.entries(parts)) next.set(name, text);
  return next;
}

/** Chosen values of a column, "" for those without one. */
export function chosen(column) {
  return address()
    .getAll("is")
    .filter((one) => one.startsWith(`${column}:`))
    .map((one) => one.slice(column.length + 1));
}

export function toggle(column, text) {
  const term = `${column}:${text}`;
  const terms = address().getAll("is");
  go({ is: terms.includes(term) ? terms.filter((one) => one !== term) : [...terms, term] });
}

/** Chosen limits of a column as texts, ["", ""] where there are none. */
export function limits(column) {
  const term = address()
    .getAll("range")
    .find((one) => one.startsWith(`${column}:`));
  return term ? term.slice(column.length + 1).split(":") : ["", ""];
}

export function setLimits(column, low, high) {
  const others = address()
    .getAll("range")
    .filter((one) => !one.startsWith(`${column}:`));
  go({ range: low === "" && high === "" ? others : [...others, `${column}:${low}:${high}`] });
}

/** Removes all filters; the order stays. */
export function clearFilters() {
  go(Object.fromEntries(FILTERS.map((name) => [name, null])));
}

/** True where anything is filtered. */
export function isFiltered() {
  const now = address();
  return FILTERS.some((name) => name !== "leave_out" && now.has(name));
}
