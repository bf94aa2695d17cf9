// Points on a canvas: up to a million, with their colours, and those inside a polygon.

import { parts } from "./palette.js";

const MANY = 40_000; // from here on pixels are written, below circles are drawn
const FAINT = 0.14;

export class MapPoints {
  /** x, y and row of each point; `colours`: list of colours, `codes`: place in it of each point. */
  constructor({ x, y, row }) {
    Object.assign(this, { x, y, row });
    this.colours = ["#888888"];
    this.codes = new Uint16Array(x.length);
    this.shownCode = null; // the only one that is not faint
    this.passing = null; // 1 for the points that pass the filters; the others are faint
    this.box = bounds(x, y);
    this.fit();
  }

  /** Shows all of the map. */
  fit() {
    const { low_x, high_x, low_y, high_y } = this.box;
    this.centre = [(low_x + high_x) / 2, (low_y + high_y) / 2];
    this.span = 1.08 * Math.max(high_x - low_x, high_y - low_y, 1e-9);
  }

  zoom(factor, at = this.centre) {
    this.span /= factor;
    this.centre = this.centre.map((one, axis) => at[axis] + (one - at[axis]) / factor);
  }

  move(share_x, share_y) {
    this.centre = [this.centre[0] + share_x * this.span, this.centre[1] + share_y * this.span];
  }

  /** From the map to pixels of a canvas, and back. */
  frame(width, height) {
    const scale = Math.min(width, height) / this.span;
    const [middle_x, middle_y] = this.centre;
    return {
      scale,
      toPixels: (x, y) => [width / 2 + (x - middle_x) * scale, height / 2 - (y - middle_y) * scale],
      toMap: (px, py) => [
        middle_x + (px - width / 2) / scale,
        middle_y - (py - height / 2) / scale,
      ],
    };
  }

  draw(context, ratio) {
    const { width, height } = context.canvas;
    context.clearRect(0, 0, width, height);
    if (this.x.length > MANY) this.#drawPixels(context, ratio);
    else this.#drawCircles(context, ratio);
  }

  #drawCircles(context, ratio) {
    const { width, height } = context.canvas;
    const { toPixels } = this.frame(width, height);
    const radius = ratio * Math.max(2.2, Math.min(5, 260 / Math.sqrt(this.x.length)));
    for (const faint of [true, false]) {
      context.globalAlpha = faint ? FAINT : 0.78;
      this.#members(faint).forEach((places, code) => {
        context.fillStyle = this.colours[code];
        for (const place of places) {
          const [px, py] = toPixels(this.x[place], this.y[place]);
          if (px < -9 || py < -9 || px > width + 9 || py > height + 9) continue;
          context.beginPath();
          context.arc(px, py, radius, 0, 7);
          context.fill();
        }
      });
    }
    context.globalAlpha = 1;
  }

  #drawPixels(context, ratio) {
    const { width, height } = context.canvas;
    const { toPixels } = this.frame(width, height);
    const image = context.getImageData(0, 0, width, height);
    const cells = new Uint32Array(image.data.buffer);
    const full = this.colours.map((one) => packed(parts(one), 255));
    const faint = this.colours.map((one) => packed(parts(one), 40));
    const side = Math.max(1, Math.round(1.5 * ratio));
    for (let place = 0; place < this.x.length; place += 1) {
      const [px, py] = toPixels(this.x[place], this.y[place]);
      const left = Math.round(px);
      const top = Math.round(py);
      if (left < 0 || top < 0 || left >= width - side || top >= height - side) continue;
      const code = this.codes[place];
      const colour = this.#isFaint(place) ? faint[code] : full[code];
      for (let down = 0; down < side; down += 1) {
        cells.fill(colour, (top + down) * width + left, (top + down) * width + left + side);
      }
    }
    context.putImageData(image, 0, 0);
  }

  #isFaint(place) {
    const isOther = this.shownCode !== null && this.codes[place] !== this.shownCode;
    return isOther || !this.#passes(place);
  }

  #passes(place) {
    return this.passing === null || this.passing[place] === 1;
  }

  /** Places of the points that are faint, or of those that are not, by their colour. */
  #members(faint) {
    const members = this.colours.map(() => []);
    this.codes.forEach((code, place) => {
      if (this.#isFaint(place) === faint) members[code].push(place);
    });
    return members;
  }

  /** The point that is nearest to a place, at most `most` away on the map; -1 for none. */
  nearest([x, y], most) {
    let best = most * most;
    let found = -1;
    for (let place = 0; place < this.x.length; place += 1) {
      const distance = (this.x[place] - x) ** 2 + (this.y[place] - y) ** 2;
      if (distance < best && this.#passes(place)) [best, found] = [distance, place];
    }
    return found;
  }

  /** The number of points that pass the filters and are inside a polygon of [x, y]. */
  countInside(polygon) {
    let number = 0;
    for (let place = 0; place < this.x.length; place += 1) {
      if (this.#passes(place) && isInside(this.x[place], this.y[place], polygon)) number += 1;
    }
    return number;
  }
}

function bounds(x, y) {
  const box = { low_x: Infinity, high_x: -Infinity, low_y: Infinity, high_y: -Infinity };
  for (let place = 0; place < x.length; place += 1) {
    box.low_x = Math.min(box.low_x, x[place]);
    box.high_x = Math.max(box.high_x, x[place]);
    box.low_y = Math.min(box.low_y, y[place]);
    box.high_y = Math.max(box.high_y, y[place]);
  }
  return box;
}

function packed([red, green, blue], alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Even-odd rule. */
function isInside(x, y, polygon) {
  let inside = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at, at += 1) {
    const [ax, ay] = polygon[at];
    const [bx, by] = polygon[before];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
