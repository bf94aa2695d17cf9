// One queue, item by item: look, listen, judge.

import { go, value } from "./address.js";
import { annotator } from "./annotator.js";
import { classOptions, config, nameOf } from "./config.js";
import { combobox } from "./combobox.js";
import { element, fill } from "./dom.js";
import { exportLinks, trainLink } from "./exports.js";
import { icon } from "./icons.js";
import { addKeys } from "./keys.js";
import { showNotice } from "./notices.js";
import { newId } from "./outbox.js";
import { Spectrogram, soundControls, soundKeys } from "./spectrogram.js";
import { clock, count, many, score } from "./words.js";

const AUTOPLAY = "melbank.autoplay";
const PATH = "/api/reviews";
const VERDICTS = [
  { name: "yes", key: "y", icon: "check" },
  { name: "no", key: "n", icon: "no" },
  { name: "unsure", key: "u", icon: "unsure" },
];

export class ReviewSession {
  #player;
  #outbox;
  #items;
  #queue;
  #given = new Map(); // number of an item -> {verdict, id, other}
  #history = []; // numbers, in the order of their verdicts
  #at = 0;
  #spectrogram = null;
  #controls = null;
  #removeKeys = () => {};
  #state = element("p.review-state", { role: "status" });
  #bar = element("i.share", {});
  #place = element("div.review-item", {});

  constructor(player, outbox, { queue, items }) {
    this.#player = player;
    this.#outbox = outbox;
    this.#items = items;
    this.#queue = queue;
    items.forEach((item, number) => this.#takeKnown(item, number));
    const head = element(
      "div.review-head",
      {},
      element("div.review-bar", {}, this.#bar),
      this.#state,
    );
    this.root = element("div.column", {}, head, this.#place);
  }

  /** Verdicts that this person has given before. */
  #takeKnown(item, number) {
    const own = item.review?.verdicts?.findLast((one) => one.annotator === annotator());
    if (own)
      this.#given.set(number, { verdict: own.verdict, id: own.verdict_id, other: own.other_label });
  }

  start() {
    const commands = {
      y: () => this.#judge("yes"),
      n: () => this.#judge("no"),
      u: () => this.#judge("unsure"),
      o: () => this.#askOther(),
      z: () => this.#undo(),
      r: () => this.#openSlice(),
      ArrowRight: () => this.#move(1),
      ArrowLeft: () => this.#move(-1),
      ...soundKeys(this.#player, () => this.#spectrogram?.toggle()),
    };
    this.#removeKeys = addKeys(commands);
    const first = this.#items.findIndex((_, number) => !this.#given.has(number));
    const wanted = value("item") === "" ? first : Number(value("item"));
    this.#show(wanted < 0 ? this.#items.length : wanted, { isFirst: true });
  }

  close() {
    this.#closeItem();
    this.#removeKeys();
  }

  /** The server has a verdict on disk; others may have judged differently. */
  confirmed({ letter, told }) {
    const { verdict, label } = letter.body;
    const other = told.others?.find((one) => one.verdict !== verdict);
    if (other)
      showNotice(
        `${other.annotator} said ${other.verdict} to ${nameOf(label)}; you said ${verdict}.`,
      );
  }

  drawState() {
    const done = this.#given.size;
    const waiting = this.#outbox.size;
    this.#bar.style.width = `${(100 * done) / this.#items.length}%`;
    const saved = waiting ? `, ${many(waiting, "verdict")} being saved` : done ? ", all saved" : "";
    this.#state.dataset.saved = String(waiting === 0);
    const items = many(this.#items.length, "item");
    this.#state.textContent = `${count(done)} of ${items} judged${saved}`;
  }

  #closeItem() {
    this.#player.stop();
    this.#spectrogram?.close();
    this.#controls?.close?.();
    this.#spectrogram = this.#controls = null;
  }

  #show(number, { isFirst = false } = {}) {
    this.#closeItem();
    this.#at = Math.max(0, Math.min(number, this.#items.length));
    go({ item: String(this.#at) }, { replace: true });
    this.drawState();
    const item = this.#items[this.#at];
    if (!item) {
      fill(this.#place, this.#end());
      return;
    }
    this.#spectrogram = new Spectrogram(this.#player, ...pictureOf(item));
    this.#controls = soundControls(this.#player, () => this.#spectrogram.toggle());
    fill(
      this.#place,
      this.#question(item),
      this.#spectrogram.root,
      this.#tools(),
      this.#answers(),
      about(item),
    );
    if (localStorage.getItem(AUTOPLAY) === "yes" && !isFirst) this.#spectrogram.toggle();
  }

  #question(item) {
    const known = this.#given.get(this.#at);
    const said = known
      ? element(`span.verdict-text.${known.verdict}`, {}, verdictText(known))
      : null;
    const shown =
      item.score === null || item.score === undefined ? "" : `score ${score(item.score)}`;
    return element(
      "div.question",
      {},
      element("h2", {}, questionOf(item)),
      element("p.muted", {}, [scientific(item), shown].filter(Boolean).join(", ")),
      said,
    );
  }

  #tools() {
    const onchange = (event) => localStorage.setItem(AUTOPLAY, event.target.checked ? "yes" : "no");
    const box = { type: "checkbox", checked: localStorage.getItem(AUTOPLAY) === "yes", onchange };
    const autoplay = element(
      "label.field",
      {},
      element("input", box),
      element("span", {}, "Play each"),
    );
    const recording = element(
      "button.quiet",
      { type: "button", onclick: () => this.#openSlice() },
      icon("recording"),
      "Recording",
      element("kbd", {}, "r"),
    );
    const { row } = this.#items[this.#at];
    const more = [config.audio ? autoplay : null, row === null ? null : recording];
    return element("div.review-tools", {}, this.#controls, element("div.with-label", {}, more));
  }

  #answers() {
    const known = this.#given.get(this.#at)?.verdict;
    const buttons = VERDICTS.map((one) =>
      element(
        `button.answer.${one.name}`,
        {
          type: "button",
          "aria-pressed": String(known === one.name),
          onclick: () => this.#judge(one.name),
        },
        icon(one.icon),
        one.name,
        element("kbd", {}, one.key),
      ),
    );
    const other = element("div.other-place", {}, this.#otherButton());
    const step = (name, text, key, disabled, onclick) =>
      element(
        "button",
        { type: "button", disabled, onclick },
        icon(name),
        text,
        element("kbd", {}, key),
      );
    return element(
      "div.answers",
      {},
      buttons,
      other,
      step("undo", "undo", "z", this.#history.length === 0, () => this.#undo()),
      step("next", "next", "→", false, () => this.#move(1)),
    );
  }

  #otherButton() {
    const onclick = () => this.#askOther();
    return element(
      "button.answer.other",
      { type: "button", onclick },
      icon("search"),
      "another",
      element("kbd", {}, "o"),
    );
  }

  #askOther() {
    const place = this.#place.querySelector(".other-place");
    if (!place) return;
    const back = () => {
      fill(place, this.#otherButton());
      place.firstChild.focus();
    };
    const box = combobox({
      label: "Which species is it?",
      placeholder: "Which species?",
      options: classOptions,
      onchoose: (label) => this.#judge("other", label),
      onleave: back,
    });
    fill(place, box);
    box.querySelector("input").focus();
  }

  #judge(verdict, other = "") {
    const item = this.#items[this.#at];
    if (!item) return;
    if (other === item.label) return this.#judge("yes");
    const id = newId();
    this.#given.set(this.#at, { verdict, id, other });
    this.#history.push({ number: this.#at, id });
    this.#outbox.put(PATH, {
      annotator: annotator(),
      verdict,
      label: item.label,
      other_label: other,
      recording_id: item.recording_id,
      start_s: item.start_s,
      end_s: item.end_s,
      row: item.row,
      score: item.score,
      model: item.model ?? "",
      queue: this.#queue,
      note: "",
      verdict_id: id,
    });
    this.#show(this.#at + 1);
  }

  #undo() {
    const last = this.#history.pop();
    if (!last) return;
    this.#given.delete(last.number);
    this.#outbox.put(`${PATH}/undo`, { annotator: annotator(), verdict_id: last.id });
    this.#show(last.number);
    showNotice("The last verdict is taken back.");
  }

  #move(by) {
    this.#show(this.#at + by);
  }

  #openSlice() {
    const row = this.#items[this.#at]?.row;
    if (row !== null && row !== undefined) go({ row });
  }

  #end() {
    const tally = {};
    for (const { verdict } of this.#given.values()) tally[verdict] = (tally[verdict] ?? 0) + 1;
    const said = Object.entries(tally)
      .map(([name, number]) => `${name} ${count(number)}`)
      .join(", ");
    const open = this.#items.findIndex((_, number) => !this.#given.has(number));
    const back =
      open < 0
        ? null
        : element(
            "button",
            { type: "button", onclick: () => this.#show(open) },
            "To the first that is open",
          );
    const undo = {
      type: "button",
      disabled: this.#history.length === 0,
      onclick: () => this.#undo(),
    };
    return element(
      "div.review-end",
      {},
      element("h2", {}, "The end of this queue"),
      element("p", {}, said),
      element(
        "div.bar-tools",
        {},
        back,
        element("button", undo, icon("undo"), "undo", element("kbd", {}, "z")),
      ),
      element(
        "div.links",
        {},
        element("h3", {}, "Export the verdicts"),
        exportLinks("reviews"),
        trainLink(),
      ),
    );
  }
}

/** The stored slice, or what is cut from the recording of a detection; and its place. */
function pictureOf(item) {
  const isStored = item.row !== null && item.row !== undefined;
  const of = isStored ? { row: item.row } : { detection: item.detection };
  const start_s = (isStored ? item.slice_start_s : null) ?? item.start_s;
  const plot_px = innerWidth < 600 ? 190 : Math.max(240, Math.min(420, 0.44 * innerHeight));
  return [of, { start_s, plot_px, alt: `Spectrogram of ${item.recording_id}` }];
}

/** A question about more than a slice says so. */
function questionOf(item) {
  const isWhole = item.end_s - item.start_s > 1.01 * config.slice_s;
  return `Is ${nameOf(item.label)} heard${isWhole ? " in this recording" : ""}?`;
}

function verdictText({ verdict, other }) {
  return verdict === "other" ? `you: ${nameOf(other)}` : `you: ${verdict}`;
}

function scientific(item) {
  return (
    item.scientific_name ??
    config.classes.find((one) => one.label === item.label)?.scientific_name ??
    ""
  );
}

/** Where it is from, and what the model takes it for. */
function about(item) {
  const lines = [`${item.recording_id}, ${clock(item.start_s)} to ${clock(item.end_s)}`];
  if (item.given && item.given !== item.label) lines.push(`label ${nameOf(item.given)}`);
  if (item.predicted && item.predicted !== item.label)
    lines.push(`predicted ${nameOf(item.predicted)}`);
  if (item.other && ![item.label, item.predicted].includes(item.other))
    lines.push(`${nameOf(item.other)} has ${score(item.other_score)}`);
  return element("p.muted.about", {}, lines.join(" · "));
}
