// Messages that stay readable: what failed and the way out, at the foot of the page.

import { element, find } from "./dom.js";
import { icon } from "./icons.js";

const QUIET_MS = 6000;

/** Shows an error until it is closed; the same text is not shown twice. */
export function showError(error) {
  if (error.name === "AbortError") return;
  show(error.message || String(error), "error");
}

/** Shows a sentence for some seconds. */
export function showNotice(text) {
  const shown = show(text, "notice");
  setTimeout(() => shown.remove(), QUIET_MS);
}

export function clearErrors() {
  find("#notices")
    .querySelectorAll(".error")
    .forEach((one) => one.remove());
}

function show(text, kind) {
  const place = find("#notices");
  for (const one of place.children) if (one.dataset.text === text) one.remove();
  const close = element(
    "button.quiet",
    { type: "button", "aria-label": "Close this message", onclick: () => shown.remove() },
    icon("close"),
  );
  const role = kind === "error" ? "alert" : "status";
  const shown = element(
    `div.message.${kind}`,
    { role, "data-text": text },
    element("p", {}, text),
    close,
  );
  place.append(shown);
  return shown;
}
