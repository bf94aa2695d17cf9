// Sound: one audio element for the whole page, with gain and half speed.

import { showError } from "./notices.js";

const LOUDEST_DB = 30;
const KEY = "melbank.gain_db";

export class Player {
  #audio = new Audio();
  #gain = null;
  #gain_db = Number(localStorage.getItem(KEY) ?? 0);
  #listeners = new Set();
  #frame = 0;

  constructor() {
    const audio = this.#audio;
    audio.id = "sound";
    audio.preload = "none";
    audio.preservesPitch = false;
    document.body.append(audio);
    for (const name of ["play", "pause", "ended"]) {
      audio.addEventListener(name, () => this.#changed());
    }
    audio.addEventListener("error", () => this.#failed());
  }

  /** Address of the sound that is loaded, or "". */
  get source() {
    return this.#audio.dataset.source ?? "";
  }

  get isPlaying() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  /** Seconds since the beginning of the sound. */
  get time_s() {
    return this.#audio.currentTime;
  }

  get gain_db() {
    return this.#gain_db;
  }

  get isSlow() {
    return this.#audio.defaultPlaybackRate < 1;
  }

  /** Calls back when it starts or stops, and for each picture while it plays. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Makes a sound ready without playing it. */
  load(source) {
    if (source === this.source) return;
    this.stop();
    this.#audio.dataset.source = source;
    this.#audio.src = source;
  }

  async toggle(source, from_s = null) {
    if (this.isPlaying && source === this.source && from_s === null) {
      this.#audio.pause();
      return;
    }
    await this.play(source, from_s);
  }

  async play(source, from_s = null) {
    this.load(source);
    this.#applyGain();
    if (from_s !== null) this.#audio.currentTime = from_s;
    try {
      await this.#audio.play();
    } catch (error) {
      if (error.name !== "AbortError" && !this.#audio.error) showError(error);
    }
  }

  stop() {
    this.#audio.pause();
  }

  setGain(gain_db) {
    this.#gain_db = Math.max(-LOUDEST_DB, Math.min(gain_db, LOUDEST_DB));
    localStorage.setItem(KEY, String(this.#gain_db));
    this.#applyGain();
    this.#tell();
  }

  setSlow(isSlow) {
    this.#audio.defaultPlaybackRate = isSlow ? 0.5 : 1;
    this.#audio.playbackRate = this.#audio.defaultPlaybackRate;
    this.#tell();
  }

  /** Quieter is the element's own volume; louder needs a gain after it. */
  #applyGain() {
    const factor = 10 ** (this.#gain_db / 20);
    if (factor > 1 && this.#gain === null) {
      const context = new AudioContext();
      this.#gain = context.createGain();
      context
        .createMediaElementSource(this.#audio)
        .connect(this.#gain)
        .connect(context.destination);
    }
    this.#audio.volume = Math.min(1, factor);
    if (this.#gain) {
      this.#gain.gain.value = Math.max(1, factor);
      this.#gain.context.resume();
    }
  }

  #changed() {
    cancelAnimationFrame(this.#frame);
    if (this.isPlaying) this.#follow();
    else this.#tell();
  }

  #follow() {
    this.#tell();
    this.#frame = requestAnimationFrame(() => (this.isPlaying ? this.#follow() : this.#tell()));
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }

  async #failed() {
    const answer = await fetch(this.source, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    const told = answer && !answer.ok ? await answer.json().catch(() => null) : null;
    showError(new Error(told?.error ?? "The sound of this slice could not be played."));
  }
}
