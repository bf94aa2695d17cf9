// A field that completes what is typed from a list: class names, in labels and in languages.

import { element, fill } from "./dom.js";

const MOST = 12;
let made = 0;

/**
 * Makes a field with completion. `options`: [{value, text, detail}]; `onchoose` gets the value.
 */
export function combobox({ label, options, onchoose, placeholder = "", onleave = () => {} }) {
  const id = `choices-${(made += 1)}`;
  const list = element("ul.choices", { id, role: "listbox", "aria-label": label, hidden: true });
  const field = element("input", {
    type: "text",
    role: "combobox",
    "aria-label": label,
    "aria-controls": id,
    placeholder,
    "aria-expanded": "false",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
  });
  const state = { found: [], at: 0 };
  const choose = (option) => {
    show([]);
    field.value = "";
    onchoose(option.value);
  };
  const show = (found) => {
    Object.assign(state, { found, at: 0 });
    list.hidden = found.length === 0;
    field.setAttribute("aria-expanded", String(found.length > 0));
    fill(
      list,
      found.map((option, place) => choice(option, `${id}-${place}`, choose)),
    );
    mark(field, list, state);
  };
  field.addEventListener("input", () => show(matching(options(), field.value)));
  field.addEventListener("focus", () => show(matching(options(), field.value)));
  field.addEventListener("blur", () => show([]));
  field.addEventListener("keydown", (event) =>
    steer(event, { field, list, state, choose, onleave }),
  );
  return element("div.combobox", {}, field, list);
}

function choice(option, id, choose) {
  const detail = option.detail ? element("span.muted.small", {}, option.detail) : null;
  const onmousedown = (event) => {
    event.preventDefault(); // the field keeps the focus
    choose(option);
  };
  return element(
    "li",
    { id, role: "option", onmousedown },
    element("span", {}, option.text),
    detail,
  );
}

function mark(field, list, { found, at }) {
  [...list.children].forEach((one, place) => one.setAttribute("aria-selected", place === at));
  const chosen = found.length ? list.children[at] : null;
  if (chosen) field.setAttribute("aria-activedescendant", chosen.id);
  else field.removeAttribute("aria-activedescendant");
  chosen?.scrollIntoView({ block: "nearest" });
}

function steer(event, { field, list, state, choose, onleave }) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && state.found.length) {
    state.at = (state.at + step + state.found.length) % state.found.length;
    mark(field, list, state);
  } else if (event.key === "Enter" && state.found.length) choose(state.found[state.at]);
  else if (event.key === "Escape") onleave();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Options that have the words, those that begin with them first. */
export function matching(options, typed) {
  const wanted = plain(typed);
  if (!wanted) return options.slice(0, MOST);
  const found = [];
  for (const option of options) {
    const place = plain(`${option.text} ${option.value} ${option.detail ?? ""}`).indexOf(wanted);
    if (place >= 0) found.push({ option, place });
  }
  return found
    .sort((one, other) => one.place - other.place)
    .slice(0, MOST)
    .map((one) => one.option);
}

function plain(text) {
  return text
    .toLowerCase()
    .normalize("NFD")
    .replaceAll(/\p{Diacritic}/gu, "")
    .trim();
}
