// The name under which verdicts are kept.

import { config } from "./config.js";

const KEY = "melbank.annotator";

export function annotator() {
  return localStorage.getItem(KEY) || config.annotator;
}

export function setAnnotator(name) {
  localStorage.setItem(KEY, name.trim());
}
