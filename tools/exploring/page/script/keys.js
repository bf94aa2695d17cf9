// Keyboard commands, by the part of the page that is in front.

import { isTyping } from "./dom.js";

const layers = [];

/**
 * Adds commands, as {"ArrowRight": action}; returns a function that takes them away again.
 * Where `isFront`, the commands below are not reached, except those of `everywhere`.
 */
export function addKeys(commands, { isFront = false, everywhere = false } = {}) {
  const layer = { commands, isFront, everywhere };
  layers.push(layer);
  return () => {
    const place = layers.indexOf(layer);
    if (place >= 0) layers.splice(place, 1);
  };
}

/** Listens; the layer that was added last is asked first. */
export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target) && event.key !== "Escape") return;
    if (pressesButton(event) || document.querySelector("dialog:modal")) return;
    for (const commands of reachable()) {
      const action = commands[event.key];
      if (action && action(event) !== false) {
        event.preventDefault();
        return;
      }
    }
  });
}

function reachable() {
  const front = layers.findLastIndex((layer) => layer.isFront);
  const known = layers.filter((layer, place) => place >= front || layer.everywhere);
  return known.toReversed().map((layer) => layer.commands);
}

/** Space and Enter press the button or link that has the focus; arrows move a slider. */
function pressesButton(event) {
  const control = event.target.closest("button, a, summary, input, [role=option]");
  if (control === null || control.dataset.passKeys) return false;
  if (event.key === " " || event.key === "Enter") return true;
  return control.type === "range" && /^(Arrow|Page|Home|End)/.test(event.key);
}
