// Verdicts on their way: sent one after the other, again until the server has them on disk.
//
// What is not confirmed yet is also kept in the browser, and sent when the page is opened again.

import { config } from "./config.js";
import { send, ServerError } from "./server.js";
import { showError } from "./notices.js";

const REST_MS = 3000;

export class Outbox {
  #waiting = [];
  #isSending = false;
  #onchange;

  /** `onchange(outbox, confirmed)`: after each step; `confirmed` is {letter, told} or null. */
  constructor(onchange) {
    this.#onchange = onchange;
    this.#waiting = JSON.parse(localStorage.getItem(this.#key) ?? "[]");
    addEventListener("beforeunload", (event) => {
      if (this.#waiting.length) event.preventDefault();
    });
    this.#run();
  }

  get #key() {
    return `melbank.outbox.${config.store_id}`;
  }

  /** Number of verdicts that are not confirmed. */
  get size() {
    return this.#waiting.length;
  }

  put(path, body) {
    this.#waiting.push({ path, body });
    this.#changed(null);
    this.#run();
  }

  async #run() {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.#waiting.length) await this.#sendFirst();
    this.#isSending = false;
  }

  async #sendFirst() {
    const letter = this.#waiting[0];
    try {
      const told = await send(letter.path, letter.body);
      this.#waiting.shift();
      this.#changed({ letter, told });
    } catch (error) {
      const isRefused = error instanceof ServerError && error.status < 500;
      if (isRefused) this.#waiting.shift();
      if (error.status !== 409) showError(error); // taken back already
      this.#changed(null);
      if (!isRefused) await new Promise((resolve) => setTimeout(resolve, REST_MS));
    }
  }

  #changed(confirmed) {
    localStorage.setItem(this.#key, JSON.stringify(this.#waiting));
    this.#onchange(this, confirmed);
  }
}

/** 32 hex digits, at random. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");
}
