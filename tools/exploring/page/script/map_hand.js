// The pointer and the keys on the map: lasso, move, zoom.

const CLICK_PX = 5;
const NEAR_PX = 10;
const MOST_CORNERS = 120;

export class MapHand {
  #canvas;
  #on;
  #lasso = null; // [x, y] on the map, while it is drawn
  #start = null; // the event with which a drag began
  #last = null;

  /** `on`: points(), redraw(), point({place, x, y} | null), open(place), select(polygon). */
  constructor(canvas, on) {
    this.#canvas = canvas;
    this.#on = on;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => on.point(null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  draw(context, ratio, colour) {
    if (!this.#lasso || this.#lasso.length < 2) return;
    const { width, height } = context.canvas;
    const { toPixels } = this.#on.points().frame(width, height);
    context.beginPath();
    this.#lasso.forEach(([x, y], place) => {
      const [px, py] = toPixels(x, y);
      if (place) context.lineTo(px, py);
      else context.moveTo(px, py);
    });
    context.closePath();
    context.fillStyle = colour;
    context.globalAlpha = 0.08;
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = colour;
    context.lineWidth = 1.5 * ratio;
    context.stroke();
  }

  #frame() {
    return this.#on.points().frame(this.#canvas.clientWidth, this.#canvas.clientHeight);
  }

  #place(event) {
    return this.#frame().toMap(event.offsetX, event.offsetY);
  }

  #down(event) {
    if (!this.#on.points()) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#start = event;
    this.#last = event;
    const isMove = event.shiftKey || event.button !== 0;
    this.#lasso = isMove ? null : [this.#place(event)];
    this.#on.point(null);
  }

  #move(event) {
    if (!this.#on.points()) return;
    if (!this.#start) this.#hover(event);
    else if (this.#lasso) this.#lasso.push(this.#place(event));
    else {
      const side = Math.min(this.#canvas.clientWidth, this.#canvas.clientHeight);
      const moved = [this.#last.offsetX - event.offsetX, event.offsetY - this.#last.offsetY];
      this.#on.points().move(moved[0] / side, moved[1] / side);
    }
    this.#last = event;
    if (this.#start) this.#on.redraw();
  }

  #hover(event) {
    const { scale } = this.#frame();
    const place = this.#on.points().nearest(this.#place(event), NEAR_PX / scale);
    this.#canvas.classList.toggle("at-point", place >= 0);
    this.#on.point(place < 0 ? null : { place, x: event.offsetX, y: event.offsetY });
  }

  #up(event) {
    const [start, lasso] = [this.#start, this.#lasso];
    this.#start = this.#lasso = null;
    this.#on.redraw();
    if (!start || !lasso) return;
    const length = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
    if (lasso.length < 8 && length < CLICK_PX) this.#click(event);
    else if (lasso.length > 2) this.#on.select(thinned(lasso));
  }

  #click(event) {
    const { scale } = this.#frame();
    const place = this.#on.points().nearest(this.#place(event), NEAR_PX / scale);
    if (place >= 0) this.#on.open(place);
  }

  #wheel(event) {
    if (!this.#on.points()) return;
    event.preventDefault();
    this.#on.points().zoom(2 ** (-event.deltaY / 400), this.#place(event));
    this.#on.redraw();
  }

  #key(event) {
    const points = this.#on.points();
    if (!points || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => points.move(-0.1, 0),
      ArrowRight: () => points.move(0.1, 0),
      ArrowUp: () => points.move(0, 0.1),
      ArrowDown: () => points.move(0, -0.1),
      "+": () => points.zoom(1.3),
      "=": () => points.zoom(1.3),
      "-": () => points.zoom(1 / 1.3),
      0: () => points.fit(),
      Enter: () => this.#on.select(this.#sight()),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
    this.#on.redraw();
  }

  /** The corners of what is seen. */
  #sight() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const { toMap } = this.#frame();
    return [toMap(0, 0), toMap(width, 0), toMap(width, height), toMap(0, height)];
  }
}

/** At most so many corners as an address can hold. */
function thinned(corners) {
  const step = Math.ceil(corners.length / MOST_CORNERS);
  return corners.filter((_, place) => place % step === 0);
}
