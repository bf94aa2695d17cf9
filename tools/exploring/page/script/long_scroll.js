// Scrolling through more lines than a browser can make an element high: 1e6 rows and beyond.
//
// Browsers stop at some 17 million pixels. A taller content gets a shorter spacer: small moves of
// the scroll bar are taken pixel by pixel, large ones in proportion, and when scrolling rests the
// bar is put where it belongs.

const TALLEST_PX = 8e6;
const REST_MS = 160;

export class LongScroll {
  #viewport;
  #spacer;
  #onMove;
  #height = 0;
  #top = 0;
  #last = 0;
  #timer = 0;

  constructor(viewport, spacer, onMove) {
    this.#viewport = viewport;
    this.#spacer = spacer;
    this.#onMove = onMove;
    viewport.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  /** Place in the content of the upper edge of what is seen, in pixels. */
  get top() {
    return this.#top;
  }

  /** What to add to a place in the content to get a place in the spacer. */
  get shift() {
    return this.#viewport.scrollTop - this.#top;
  }

  setHeight(height) {
    this.#height = height;
    this.#spacer.style.height = `${Math.min(height, TALLEST_PX)}px`;
    this.moveTo(Math.min(this.#top, this.#range));
  }

  /** Shows another place. */
  moveTo(top) {
    this.#top = Math.max(0, Math.min(top, this.#range));
    this.#settle();
    this.#onMove();
  }

  get #range() {
    return Math.max(0, this.#height - this.#viewport.clientHeight);
  }

  get #spacerRange() {
    return Math.max(0, Math.min(this.#height, TALLEST_PX) - this.#viewport.clientHeight);
  }

  #scrolled() {
    const now = this.#viewport.scrollTop;
    const moved = now - this.#last;
    if (moved === 0) return;
    this.#last = now;
    const isShort = Math.abs(moved) <= 2 * this.#viewport.clientHeight;
    if (this.#range <= this.#spacerRange) this.#top = now;
    else if (now <= 0) this.#top = isShort ? Math.max(0, this.#top + moved) : 0;
    else if (isShort) this.#top = Math.max(0, Math.min(this.#top + moved, this.#range));
    else this.#top = (now / this.#spacerRange) * this.#range;
    if (now >= this.#spacerRange - 1 && !isShort) this.#top = this.#range;
    this.#onMove();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#rest(), REST_MS);
  }

  #rest() {
    if (this.#range <= this.#spacerRange) return;
    this.#settle();
    this.#onMove();
  }

  /** Puts the scroll bar at the place that belongs to what is shown. */
  #settle() {
    const share = this.#range === 0 ? 0 : this.#top / this.#range;
    this.#viewport.scrollTop = share * this.#spacerRange;
    this.#last = this.#viewport.scrollTop;
  }
}
