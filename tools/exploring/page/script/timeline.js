// A whole recording: its spectrogram, slices, labels, predictions, detections and verdicts in time.

import { frequencyAxis, timeTicks } from "./axes.js";
import { config, nameOf } from "./config.js";
import { element } from "./dom.js";
import { PER_SHEET, sheetAddress, showTile } from "./sheets.js";
import { soundAddress } from "./sound.js";
import { clock, score } from "./words.js";

const LANES = 6; // classes with predictions
const LEAST_SCORE = 0.05; // of a class that has a lane
const LEAST_PX_PER_S = 14;
const STRIP_PX = 88;
const STRIP_TILE = { width: 128, height: 88 };

/** `told`: the answer of /api/recording; `actions`: open(row). */
export class Timeline {
  #told;
  #actions;
  #duration_s;
  #track;
  #unfollow = [];

  constructor(player, told, width_px, actions) {
    this.#told = told;
    this.#actions = actions;
    const ends = told.slices.map((row) => row.end_s);
    this.#duration_s = Math.max(told.recording.duration_s ?? 0, ...ends, 0.1);
    const px = Math.max(width_px, this.#duration_s * LEAST_PX_PER_S);
    const cursor = element("i.cursor", { hidden: true });
    const lanes = [this.#slices(), ...this.#classes(), this.#detections(), this.#verdicts()];
    const known = lanes.filter(Boolean);
    this.#track = element(
      "div.track",
      {},
      this.#strip(),
      known.map((lane) => lane.track),
      cursor,
      this.#axis(px),
    );
    this.#track.style.width = `${px}px`;
    const names = element(
      "div.lane-names",
      {},
      element("div.strip-axis", {}, frequencyAxis(17 / STRIP_PX)),
      known.map(laneName),
    );
    const scroll = element(
      "div.track-scroll",
      { tabindex: "0", role: "group", "aria-label": "Time line" },
      this.#track,
    );
    this.root = element("div.timeline", {}, names, scroll);
    this.root.style.setProperty("--plot", `${STRIP_PX}px`);
    this.#follow(player, cursor);
  }

  /** Marks the slice that is shown, and brings it into sight. */
  mark(row) {
    for (const one of this.#track.querySelectorAll("[data-row]")) {
      one.toggleAttribute("data-shown", one.dataset.row === String(row));
    }
    const shown = this.#track.querySelector("[data-shown]");
    const scroll = this.#track.parentElement;
    if (shown) scroll.scrollLeft = shown.offsetLeft - scroll.clientWidth / 2;
  }

  close() {
    for (const one of this.#unfollow) one();
  }

  #follow(player, cursor) {
    const whole = soundAddress({ recording: this.#told.recording.recording_id });
    const picture = { start_s: 0, end_s: this.#duration_s };
    const starts = new Map(
      this.#told.slices.map((row) => [soundAddress({ row: row.row }), row.start_s]),
    );
    starts.set(whole, 0);
    const draw = () => {
      const start_s = starts.get(player.source);
      cursor.hidden = start_s === undefined || !(player.isPlaying || player.time_s > 0);
      cursor.style.left = `${(100 * ((start_s ?? 0) + player.time_s)) / picture.end_s}%`;
    };
    draw();
    this.#unfollow.push(player.listen(draw));
  }

  #put(made, start_s, end_s) {
    made.style.left = `${(100 * start_s) / this.#duration_s}%`;
    made.style.width = `${(100 * (end_s - start_s)) / this.#duration_s}%`;
    return made;
  }

  #strip() {
    const strip = element("div.strip", { "aria-hidden": "true" });
    const slices = this.#told.slices;
    const sight = new IntersectionObserver(
      (seen) => {
        for (const one of seen) if (one.isIntersecting) showStripTile(one.target, slices);
      },
      { rootMargin: "0px 600px" },
    );
    slices.forEach((row, place) => {
      const made = element("div.strip-tile", { "data-place": place });
      strip.append(this.#put(made, row.start_s, row.start_s + config.slice_s));
      sight.observe(made);
    });
    this.#unfollow.push(() => sight.disconnect());
    return strip;
  }

  /** A button for each slice, as long as the step to the next one. */
  #slices() {
    const slices = this.#told.slices;
    const made = slices.map((row, place) => {
      const end_s = Math.min(slices[place + 1]?.start_s ?? row.end_s, row.end_s);
      const isRight = row.predicted === row.primary_label;
      const kind = row.predicted ? (isRight ? "right" : "wrong") : "unknown";
      const predicted = row.predicted ? `, ${nameOf(row.predicted)} ${score(row.score)}` : "";
      const said = `${clock(row.start_s)}${predicted}`;
      const button = element(`button.span.${kind}`, {
        type: "button",
        "data-row": row.row,
        "aria-label": said,
        title: said,
        tabindex: place === 0 ? "0" : "-1",
        onclick: () => this.#actions.open(row),
        onkeydown: (event) => step(event),
      });
      return this.#put(button, row.start_s, end_s);
    });
    return { name: "Slices", track: element("div.lane", {}, made) };
  }

  #classes() {
    const best = new Map();
    for (const row of this.#told.slices) {
      for (const [label, value] of row.top ?? [])
        best.set(label, Math.max(best.get(label) ?? 0, value));
    }
    const { primary_label: given } = this.#told.recording;
    const likely = [...best].filter(([, value]) => value >= LEAST_SCORE);
    const others = likely.sort((one, other) => other[1] - one[1]).map(([label]) => label);
    const labels = [given, ...others.filter((label) => label !== given)]
      .filter(Boolean)
      .slice(0, LANES);
    return labels.map((label) => this.#class(label, label === given));
  }

  #class(label, isGiven) {
    const slices = this.#told.slices;
    const cells = slices.map((row, place) => {
      const value = row.top?.find(([name]) => name === label)?.[1] ?? 0;
      if (value < 0.01) return null;
      const end_s = Math.min(slices[place + 1]?.start_s ?? row.end_s, row.end_s);
      const made = element("i.heat", {
        title: `${nameOf(label)} ${score(value)} at ${clock(row.start_s)}`,
      });
      made.style.opacity = String(0.12 + 0.88 * value);
      return this.#put(made, row.start_s, end_s);
    });
    return { name: nameOf(label), isGiven, track: element("div.lane", {}, cells) };
  }

  #detections() {
    const found = this.#told.detections ?? [];
    if (!found.length) return null;
    const bars = found.map((one) => {
      const text = `${nameOf(one.label)} ${score(one.score)}`;
      return this.#put(element("span.bar-span", { title: text }, text), one.start_s, one.end_s);
    });
    return { name: "Detections", track: element("div.lane", {}, bars) };
  }

  #verdicts() {
    const given = this.#told.verdicts ?? [];
    if (!given.length) return null;
    const bars = given.map((one) => {
      const text = `${one.verdict}: ${nameOf(one.other_label || one.label)} (${one.annotator})`;
      const made = element(`span.bar-span.${one.verdict}`, { title: text }, text);
      return this.#put(made, one.start_s, one.end_s);
    });
    return { name: "Verdicts", track: element("div.lane", {}, bars) };
  }

  #axis(px) {
    const ticks = timeTicks(0, this.#duration_s, px / 70).map(({ place, seconds }) => {
      const tick = element("span", {}, clock(seconds));
      tick.style.left = `${place * 100}%`;
      if (place < 0.02) tick.classList.add("first");
      if (place > 0.98) tick.classList.add("last");
      return tick;
    });
    return element("div.seconds", { "aria-hidden": "true" }, ticks);
  }
}

function laneName({ name, isGiven = false }) {
  return element(`div.lane-name${isGiven ? ".given-label" : ""}`, { title: name }, name);
}

function showStripTile(made, slices) {
  const place = Number(made.dataset.place);
  const first = Math.floor(place / PER_SHEET) * PER_SHEET;
  const rows = slices.slice(first, first + PER_SHEET).map((row) => row.row);
  showTile(made, sheetAddress({ rows }, STRIP_TILE), place - first, rows.length);
}

/** Arrows go from slice to slice. */
function step(event) {
  const wanted = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[
    event.key
  ];
  if (!wanted) return;
  event.preventDefault();
  event.stopPropagation();
  const next = event.currentTarget[wanted];
  if (!next) return;
  event.currentTarget.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
