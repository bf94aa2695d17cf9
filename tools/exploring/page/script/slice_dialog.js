// The large view: a slice, its sound, its recording, what is known of it, and its neighbours.

import { go, onAddress, value } from "./address.js";
import { nameOf } from "./config.js";
import { element, fill, find } from "./dom.js";
import { facts, givenLabels, predictions, verdicts } from "./facts.js";
import { icon } from "./icons.js";
import { addKeys } from "./keys.js";
import { neighbours } from "./neighbours.js";
import { ask, attempt } from "./server.js";
import { Spectrogram, soundControls, soundKeys } from "./spectrogram.js";
import { Timeline } from "./timeline.js";
import { soundAddress } from "./sound.js";
import { clock } from "./words.js";

const NAMES_PX = innerWidth <= 900 ? 92 : 136; // as in the style sheet

export class SliceDialog {
  #dialog = find("#slice");
  #player;
  #list; // () => {rows, focus}: the list from which it was opened
  #shown = null; // number of the row
  #row = null;
  #parts = []; // with close()
  #removeKeys = null;
  #timeline = null;
  #spectrogram = null;

  constructor(player, list) {
    this.#player = player;
    this.#list = list;
    this.#dialog.addEventListener("close", () => this.#closed());
    find("#veil").addEventListener("click", () => this.#leave());
    onAddress(() => this.update());
  }

  /** Shows what the address names, or closes. */
  async update() {
    const wanted = value("row");
    if (!wanted) {
      if (this.#dialog.open) this.#dialog.close();
      return;
    }
    if (wanted === this.#shown) return;
    this.#shown = wanted;
    const row = await attempt(() => this.#find(wanted));
    if (this.#shown !== wanted) return;
    if (!row) this.#leave();
    else this.#show(row);
  }

  async #find(wanted) {
    const rows = this.#list().rows;
    const known = rows?.at(rows.placeOf(Number(wanted)));
    if (known) return known;
    const told = await ask("/api/rows", { is: `row:${wanted}`, count: 1 });
    if (!told.rows.length) throw new Error(`There is no slice ${wanted} in this store.`);
    return told.rows[0];
  }

  #show(row) {
    this.#closeParts();
    this.#row = row;
    const alt = `Spectrogram of ${nameOf(row.primary_label)}, ${row.recording_id}`;
    const place = { start_s: row.start_s, alt, plot_px: plotHeight() };
    this.#spectrogram = new Spectrogram(this.#player, { row: row.row }, place);
    const controls = soundControls(this.#player, () => this.#spectrogram.toggle());
    const whole = element("section.recording", { "aria-label": "Recording" });
    const alike = element("section.alike", { "aria-label": "Slices that sound alike" });
    this.#parts = [this.#spectrogram, ...(controls.close ? [controls] : [])];
    const shown = element("div.slice-main", {}, this.#spectrogram.root, controls, whole, alike);
    const about = element(
      "div.slice-about",
      {},
      givenLabels(row),
      predictions(row),
      verdicts(row),
      facts(row),
    );
    fill(this.#dialog, this.#head(row), element("div.slice-body", {}, shown, about));
    if (!this.#dialog.open) this.#open();
    find(".slice-body", this.#dialog).scrollTop = 0;
    this.#showRecording(row, whole);
    neighbours(row, alike, (one) => this.#openOther(one));
  }

  #open() {
    setBehind(true);
    this.#dialog.show(); // not modal: messages stay in reach
    this.#dialog.focus();
    const commands = {
      ...soundKeys(this.#player, () => this.#spectrogram?.toggle()),
      ArrowRight: () => this.#step(1),
      ArrowLeft: () => this.#step(-1),
      Escape: () => this.#leave(),
      s: () => this.#showAlike(),
      r: () => this.#playRecording(),
    };
    this.#removeKeys = addKeys(commands, { isFront: true });
  }

  #head(row) {
    const button = (name, label, onclick) =>
      element(
        "button.quiet",
        { type: "button", "aria-label": label, title: label, onclick },
        icon(name),
      );
    const name = element("h2", {}, nameOf(row.primary_label));
    const where = element("p.muted", {}, `${row.recording_id}, ${clock(row.start_s)}`);
    const alike = element(
      "button",
      { type: "button", "aria-label": "Alike", title: "s", onclick: () => this.#showAlike() },
      icon("alike"),
      element("span.text", {}, "Alike"),
    );
    return element(
      "div.dialog-head",
      {},
      element("div.dialog-title", {}, name, where),
      alike,
      button("back", "Previous slice", () => this.#step(-1)),
      button("next", "Next slice", () => this.#step(1)),
      button("close", "Close", () => this.#leave()),
    );
  }

  async #showRecording(row, place) {
    const told = await attempt(() => ask("/api/recording", { id: row.recording_id }));
    if (!told || this.#row !== row) return;
    const width = place.clientWidth - NAMES_PX;
    this.#timeline = new Timeline(this.#player, told, width, {
      open: (one) => this.#openOther(one),
    });
    this.#parts.push(this.#timeline);
    const whole = { type: "button", onclick: () => this.#playRecording() };
    const title = element(
      "h3",
      {},
      `Recording, ${clock(told.recording.duration_s)}, ${told.total} slices`,
    );
    const play = element("button.quiet", whole, icon("recording"), "Play all");
    const like = { type: "button", onclick: () => this.#showAlike("recording") };
    const alike = element("button.quiet", like, icon("alike"), "Recordings alike");
    fill(
      place,
      element("div.section-head", {}, title, element("div", {}, alike, play)),
      this.#timeline.root,
    );
    this.#timeline.mark(row.row);
  }

  #playRecording() {
    const source = soundAddress({ recording: this.#row.recording_id });
    return this.#player.toggle(source);
  }

  #openOther(row) {
    this.#player.stop();
    go({ row: row.row });
  }

  /** The grid of what sounds like this slice, or like any of its recording. */
  #showAlike(kind = "row") {
    const of = kind === "row" ? this.#row.row : this.#row.recording_id;
    go({ view: null, row: null, like: `${kind}:${of}`, sort: null, leave_out: null });
  }

  async #step(by) {
    const { rows, focus } = this.#list();
    const place = rows?.placeOf(this.#row.row) ?? -1;
    const next = place < 0 ? undefined : await attempt(() => rows.get(place + by));
    if (!next) return;
    this.#player.stop();
    focus(place + by);
    go({ row: next.row }, { replace: true });
  }

  #leave() {
    go({ row: null });
  }

  #closeParts() {
    for (const part of this.#parts) part.close();
    this.#parts = [];
  }

  #closed() {
    this.#player.stop();
    this.#closeParts();
    this.#removeKeys?.();
    this.#removeKeys = null;
    this.#shown = null;
    setBehind(false);
    const { rows, focus } = this.#list();
    const place = this.#row ? (rows?.placeOf(this.#row.row) ?? -1) : -1;
    if (place >= 0) focus(place);
  }
}

/** Dims all but the dialog, and keeps the focus out of it. */
function setBehind(isBehind) {
  for (const part of ["#top", "#body"]) find(part).inert = isBehind;
  find("#veil").hidden = !isBehind;
}

function plotHeight() {
  return innerWidth < 600 ? 200 : Math.max(220, Math.min(380, Math.round(innerHeight * 0.38)));
}
