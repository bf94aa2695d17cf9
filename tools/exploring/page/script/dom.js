// Elements made in one call, and a few questions about them.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "htmlFor"]);
const NO_TEXT = new Set(["checkbox", "radio", "range", "button"]);

/** Makes an element: `element("button.quiet", {type: "button", onclick}, "Clear")`. */
export function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) setAttribute(made, key, value);
  append(made, children);
  return made;
}

function setAttribute(made, key, value) {
  if (value === undefined || value === null) return;
  if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
  else if (PROPERTIES.has(key)) made[key] = value;
  else if (value !== false) made.setAttribute(key, value === true ? "" : value);
}

/** Appends children, leaving out those that are null, undefined or false. */
export function append(parent, children) {
  const there = children.flat(Infinity).filter((one) => one !== false && one != null);
  parent.append(...there);
}

/** Replaces what an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

export function find(selector, within = document) {
  return within.querySelector(selector);
}

/** True where typing goes into a field, so that single letters are no commands. */
export function isTyping(target) {
  if (target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName)) return true;
  return target.tagName === "INPUT" && !NO_TEXT.has(target.type);
}
