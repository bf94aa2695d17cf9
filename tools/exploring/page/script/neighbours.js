// A strip of the slices that sound most like one.

import { nameOf } from "./config.js";
import { element, fill } from "./dom.js";
import { config } from "./config.js";
import { ask, attempt } from "./server.js";
import { sheetAddress, showTile } from "./sheets.js";
import { score } from "./words.js";

const COUNT = 8;

/** Fills a section with the neighbours of a row, when they are known. */
export async function neighbours(row, section, open) {
  if (!config.embeddings) return;
  const wait = element("p.muted.small", {}, "Looking for slices that sound alike");
  fill(section, element("h3", {}, "Sounds alike"), wait);
  const onwait = (told) => {
    const share = told.progress === undefined ? "" : `, ${Math.round(100 * told.progress)} %`;
    wait.textContent = `Computing ${told.what ?? "embeddings"}${share}`;
  };
  const told = await attempt(() =>
    ask("/api/rows", { like: `row:${row.row}`, count: COUNT }, { onwait }),
  );
  if (!told || !section.isConnected) return;
  const rows = told.rows.map((one) => one.row);
  const tiles = told.rows.map((one, place) => small(one, place, rows, open));
  fill(section, element("h3", {}, "Sounds alike"), element("ul.strip-list", {}, tiles));
}

function small(row, place, rows, open) {
  const picture = element("span.picture", {});
  showTile(picture, sheetAddress({ rows }, { width: 160, height: 64 }), place, rows.length);
  const words = element(
    "span.small.line",
    {},
    element("span.names", {}, nameOf(row.primary_label)),
    element("span.muted", {}, score(row.similarity)),
  );
  return element(
    "li",
    {},
    element("button.neighbour", { type: "button", onclick: () => open(row) }, picture, words),
  );
}
