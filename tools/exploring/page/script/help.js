// The list of keys, opened by `?`.

import { element, fill, find } from "./dom.js";
import { icon } from "./icons.js";

const KEYS = {
  Everywhere: [
    ["?", "this list"],
    ["g", "grid"],
    ["m", "map"],
    ["c", "scores of a class"],
    ["e", "errors and comparison"],
    ["v", "review"],
    ["/", "the SQL box"],
    ["d", "light or dark"],
    ["Esc", "close what is in front"],
  ],
  "In the grid": [
    ["← → ↑ ↓", "next slice"],
    ["Page Up, Page Down", "a page"],
    ["Home, End", "first, last"],
    ["Enter", "open the slice"],
    ["Space", "play"],
  ],
  "A slice": [
    ["Space", "play, pause"],
    ["← →", "previous, next slice of the list"],
    ["h", "half speed"],
    ["+ −", "louder, quieter"],
    ["s", "slices that sound alike"],
    ["r", "play the whole recording"],
  ],
  Review: [
    ["y", "yes, it is heard"],
    ["n", "no"],
    ["u", "unsure"],
    ["o", "another species"],
    ["r", "the whole recording"],
    ["z", "take the last verdict back"],
    ["→", "next without a verdict"],
    ["Space", "play, pause"],
  ],
  "The map": [
    ["drag", "draw a lasso around slices"],
    ["Shift and drag, arrows", "move"],
    ["wheel, + −", "nearer, further"],
    ["0", "all"],
    ["Enter", "take all that is in sight"],
  ],
};

export function showHelp() {
  const dialog = find("#help");
  if (dialog.open) return;
  fill(dialog, heading(dialog), element("div.help-groups", {}, Object.entries(KEYS).map(group)));
  dialog.showModal();
}

function heading(dialog) {
  const close = { type: "button", "aria-label": "Close", onclick: () => dialog.close() };
  return element(
    "div.dialog-head",
    {},
    element("h2", { id: "help-title" }, "Keys"),
    element("button.quiet", close, icon("close")),
  );
}

function group([title, keys]) {
  const lines = keys.map(([names, does]) =>
    element(
      "div",
      {},
      element(
        "dt",
        {},
        names.split(", ").map((name) => element("kbd", {}, name)),
      ),
      element("dd", {}, does),
    ),
  );
  return element("section", {}, element("h3", {}, title), element("dl", {}, lines));
}
