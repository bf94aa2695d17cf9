// One slice, large: every cell, axes, and a cursor that moves with the sound.

import { frequencyAxis, timeAxis } from "./axes.js";
import { config } from "./config.js";
import { element } from "./dom.js";
import { icon } from "./icons.js";
import { spectrogramAddress } from "./sheets.js";
import { followSound, soundAddress } from "./sound.js";

export class Spectrogram {
  #player;
  #of;
  #unfollow;

  /** `of`: {row} or {detection}; the times are those of the picture's edges. */
  constructor(player, of, { start_s, alt, end_s = start_s + config.slice_s, plot_px = 300 }) {
    this.#player = player;
    this.#of = of;
    const cursor = element("i.cursor", { hidden: true });
    const image = element("img", { src: spectrogramAddress(of), alt, draggable: "false" });
    const onclick = (event) => this.#playFrom(event, end_s - start_s);
    const picture = element("div.picture.large", { onclick }, image, cursor);
    this.root = element(
      "div.plot.large",
      {},
      frequencyAxis(18 / plot_px),
      picture,
      timeAxis(start_s, end_s, 8),
    );
    this.root.style.setProperty("--plot", `${plot_px}px`);
    const source = () => this.source;
    this.#unfollow = followSound(player, cursor, { source, offset_s: start_s, start_s, end_s });
  }

  get source() {
    return soundAddress(this.#of);
  }

  toggle() {
    return this.#player.toggle(this.source);
  }

  close() {
    this.#unfollow();
  }

  #playFrom(event, length_s) {
    if (!config.audio) return;
    const box = event.currentTarget.getBoundingClientRect();
    const from_s = ((event.clientX - box.left) / box.width) * length_s;
    this.#player.play(this.source, from_s);
  }
}

/** Play, half speed and gain. */
export function soundControls(player, toggle) {
  if (!config.audio) return element("p.muted.small", {}, config.audio_reason);
  const play = element("button.primary.play-button", { type: "button", onclick: toggle });
  const slow = element(
    "button",
    {
      type: "button",
      onclick: () => player.setSlow(!player.isSlow),
      title: "h",
    },
    "½ speed",
  );
  const gain = element("input", {
    type: "range",
    min: -30,
    max: 30,
    step: 1,
    "aria-label": "Gain in dB",
    oninput: (event) => player.setGain(Number(event.target.value)),
  });
  const said = element("output.small.muted", {});
  const draw = () => drawControls({ play, slow, gain, said }, player);
  draw();
  const root = element(
    "div.sound-controls",
    {},
    play,
    slow,
    element("label.field", {}, element("span", {}, "Gain"), gain, said),
  );
  root.close = player.listen(draw);
  return root;
}

function drawControls({ play, slow, gain, said }, player) {
  const name = player.isPlaying ? "pause" : "play";
  if (play.dataset.name !== name) {
    play.dataset.name = name;
    play.replaceChildren(icon(name), player.isPlaying ? "Pause" : "Play");
  }
  slow.setAttribute("aria-pressed", String(player.isSlow));
  gain.value = player.gain_db;
  said.textContent = `${player.gain_db > 0 ? "+" : ""}${player.gain_db} dB`;
}

/** Keys that every place with sound has. */
export function soundKeys(player, toggle) {
  return {
    " ": toggle,
    h: () => player.setSlow(!player.isSlow),
    "+": () => player.setGain(player.gain_db + 3),
    "=": () => player.setGain(player.gain_db + 3),
    "-": () => player.setGain(player.gain_db - 3),
  };
}
