// Choice of what is reviewed, and in which order.

import { goTo, value } from "./address.js";
import { annotator, setAnnotator } from "./annotator.js";
import { classOptions, config, nameOf } from "./config.js";
import { combobox } from "./combobox.js";
import { element, fill } from "./dom.js";
import { isFiltered, viewQuery } from "./view.js";

const OF = {
  labels: ["Labels", "Is the label of the slice heard?"],
  predictions: ["Predictions", "Is the predicted class heard?"],
  detections: ["Detections", "Is what was detected in a recording heard?"],
  mislabelled: ["Likely mislabelled", "Recordings whose label the model doubts most"],
};
const ORDERS = {
  highest: "highest score first",
  lowest: "lowest score first",
  uncertain: "least certain first",
  bands: "evenly over score bands",
  labels: "some of each species",
  sites: "some of each site and day",
  random: "random",
};

/** A change of these shows other fields; of the others it must not, as the focus is in one. */
const ASKED = new Set(["of", "order"]);

/** The form; it starts a queue by its address. */
export function queueForm() {
  const chosen = { label: value("label") };
  const of = element("fieldset.queue-of", {}, element("legend.unseen", {}, "Review"), kinds());
  const order = select("order", config.queues.orders, ORDERS, "highest");
  const more = element("div.fields", {});
  const draw = () => drawFields(form, more, order);
  const labelled = element("div.label-field", {});
  drawLabel(labelled, chosen);
  const form = element(
    "form.queue-form",
    {
      onsubmit: (event) => start(event, chosen),
      onchange: (event) => ASKED.has(event.target.name) && draw(),
    },
    of,
    field("Order", order),
    labelled,
    more,
    filterNote(),
    element("button.primary", { type: "submit", id: "start" }, "Start the review"),
  );
  draw();
  return form;
}

function kinds() {
  const first = config.queues.of[0];
  return config.queues.of.map((name) => {
    const [title, text] = OF[name];
    const radio = { type: "radio", name: "of", value: name, checked: name === value("of", first) };
    const words = element("span", {}, element("b", {}, title), element("span.muted", {}, text));
    return element("label.kind", {}, element("input", radio), words);
  });
}

function select(name, values, texts, otherwise) {
  const options = values.map((one) =>
    element("option", { value: one, selected: one === value(name, otherwise) }, texts[one] ?? one),
  );
  return element("select", { name }, options);
}

function field(text, control) {
  return element("label.stacked", {}, element("span", {}, text), control);
}

function number(name, otherwise, limits = {}) {
  return element("input", {
    type: "number",
    name,
    min: 1,
    value: value(name, otherwise),
    ...limits,
  });
}

/** Fields that the order asks for. */
function drawFields(form, more, order) {
  const isMislabelled = form.elements.of.value === "mislabelled";
  order.disabled = isMislabelled;
  const kept = new FormData(form);
  const parts = [
    field(
      "Your name",
      element("input", {
        type: "text",
        name: "annotator",
        required: true,
        maxlength: 80,
        autocomplete: "name",
        value: kept.get("annotator") ?? annotator(),
      }),
    ),
    field("At most", number("count", kept.get("count") ?? "200", { max: 5000 })),
    field(
      "Of a recording at most",
      number("per_recording", kept.get("per_recording") ?? "", { placeholder: "all" }),
    ),
  ];
  if (!isMislabelled && ["labels", "sites"].includes(order.value)) {
    parts.push(field("Of each", number("per_group", kept.get("per_group") ?? "5")));
  }
  if (!isMislabelled && order.value === "bands")
    parts.push(field("Bands", number("bands", kept.get("bands") ?? "10")));
  parts.push(field("Seed", number("seed", kept.get("seed") ?? "0", { min: 0 })));
  fill(more, parts);
}

function drawLabel(place, chosen) {
  const draw = () => drawLabel(place, chosen);
  const choose = (label) => {
    chosen.label = label;
    draw();
  };
  const text = chosen.label ? nameOf(chosen.label) : "all species";
  const box = combobox({
    label: "Species",
    options: classOptions,
    placeholder: text,
    onchoose: choose,
  });
  const clear = element("button.quiet", { type: "button", onclick: () => choose("") }, "All");
  fill(
    place,
    element(
      "div.stacked",
      {},
      element("span", {}, "Species"),
      element("div.with-button", {}, box, chosen.label ? clear : null),
    ),
  );
}

function filterNote() {
  if (!isFiltered()) return null;
  return element("p.muted", {}, "Only slices that pass the filters of the grid are reviewed.");
}

function start(event, chosen) {
  event.preventDefault();
  const values = Object.fromEntries(new FormData(event.target));
  setAnnotator(values.annotator);
  delete values.annotator;
  const state = viewQuery({ order: false });
  state.set("view", "review");
  state.set("queue", "1");
  for (const [name, one] of Object.entries({ ...values, label: chosen.label }))
    if (one !== "") state.set(name, one);
  goTo(state);
}
