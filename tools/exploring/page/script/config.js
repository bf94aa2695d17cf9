// What the server says about itself once, at the start.

import { ask } from "./server.js";

export let config = null;
const names = new Map();

/** Reads the configuration and the names of the classes. */
export async function loadConfig() {
  const [told, taxonomy] = await Promise.all([
    ask("/api/config"),
    ask("/api/taxonomy", { q: "", count: 20_000 }),
  ]);
  config = { ...told, classes: taxonomy.classes };
  for (const one of taxonomy.classes) names.set(one.label, one.common_name || one.scientific_name);
  return config;
}

/** The name that people use of a label, or the label. */
export function nameOf(label) {
  return names.get(label) || label || "no label";
}

/** Classes for completion; only those with scores where `scored`. */
export function classOptions({ scored = false } = {}) {
  const known = new Set(config.scored);
  return config.classes
    .filter((one) => !scored || known.has(one.label))
    .map((one) => ({
      value: one.label,
      text: one.common_name || one.label,
      detail: one.scientific_name || (one.common_name ? one.label : ""),
    }));
}

/** Who is right in a comparison: both, the name of an experiment, neither. */
export function outcomeName(outcome) {
  return (
    { first: `only ${config.experiment}`, second: `only ${config.compare}` }[outcome] ?? outcome
  );
}

/** Words for the columns that the page knows. */
const TITLES = {
  primary_label: "Species",
  predicted: "Predicted",
  site: "Site",
  date: "Day",
  fold: "Fold",
  outcome: "Right in the comparison",
  author: "Author",
  silent: "Silent",
  review: "Verdict",
  active_share: "Activity",
  max_db: "Loudest, dB",
  mean_db: "Level, dB",
  score: "Score",
  label_score: "Score of the label",
  loss: "Loss",
  margin: "Margin",
  entropy: "Entropy",
  row: "Store",
  random: "Random",
  similarity: "Similarity",
  target: "Nearest to a score",
  class: "Score of a class",
  query: "Order of the SQL",
  mislabelled: "Likely mislabelled",
  wrong: "Errors first",
  centroid_hz: "Centroid, Hz",
  other_score: "Score of another",
  recording_id: "Recording",
  status: "Status",
  class_name: "Group",
  scientific_name: "Latin name",
  peak_hz: "Peak, Hz",
  start_s: "Start, s",
  duration_s: "Length, s",
};

export function title(column) {
  return TITLES[column] ?? sentence(column);
}

function sentence(column) {
  const words = column.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
