// Review: the choice of a queue and the progress, or the queue itself.

import { address, value } from "./address.js";
import { config } from "./config.js";
import { element, fill } from "./dom.js";
import { progressReport } from "./progress.js";
import { queueForm } from "./queue_form.js";
import { ReviewSession } from "./review_session.js";
import { ask, attempt } from "./server.js";

const QUEUE = [
  "of",
  "order",
  "label",
  "count",
  "per_recording",
  "per_group",
  "bands",
  "seed",
  "where",
  "is",
  "range",
  "polygon",
];

export class ReviewView {
  #player;
  #outbox;
  #session = null;
  #key = null;

  constructor(player, outbox) {
    this.#player = player;
    this.#outbox = outbox;
    this.root = element("section.review.scroller", { "aria-label": "Review", tabindex: "-1" });
  }

  /** Shows what the address names. */
  async show() {
    const query = queueQuery();
    const key = value("queue") ? query.toString() : "";
    if (key && key === this.#key) return;
    this.close();
    this.#key = key;
    if (key) await this.#start(query);
    else await this.#choose();
  }

  /** A verdict is on disk. */
  confirmed(told) {
    this.#session?.confirmed(told);
  }

  changed() {
    this.#session?.drawState();
  }

  close() {
    this.#session?.close();
    this.#session = null;
    this.#key = null;
  }

  async #choose() {
    if (!config.queues.of.length) {
      fill(
        this.root,
        element("p.empty", {}, "There is nothing to review: the store has no slices."),
      );
      return;
    }
    const report = element("div.report", {});
    fill(
      this.root,
      element(
        "div.column.review-start",
        {},
        element("div", {}, element("h2", {}, "Review"), queueForm()),
        report,
      ),
    );
    const told = await attempt(() => ask("/api/reviews/progress"));
    if (told) fill(report, progressReport(told));
  }

  async #start(query) {
    fill(this.root, element("p.empty", { role: "status" }, "Loading the queue"));
    const told = await attempt(() => ask("/api/queue", query));
    if (!told || query.toString() !== this.#key) return;
    if (!told.items.length) {
      fill(
        this.root,
        element("p.empty", {}, "No slice is in this queue: choose another order or fewer filters."),
      );
      return;
    }
    this.#session = new ReviewSession(this.#player, this.#outbox, told);
    fill(this.root, this.#session.root);
    this.#session.start();
  }
}

function queueQuery() {
  const query = new URLSearchParams();
  for (const [name, one] of address()) if (QUEUE.includes(name)) query.append(name, one);
  return query;
}
