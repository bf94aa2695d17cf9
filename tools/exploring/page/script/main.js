// The page: which view is shown, and what the views share.

import { address, changed, go, onAddress, startAddress, value } from "./address.js";
import { config, loadConfig } from "./config.js";
import { element, fill, find } from "./dom.js";
import { fileButton, startDrop } from "./drop.js";
import { ErrorsView } from "./errors_view.js";
import { Facets, showFacets } from "./facets.js";
import { FilterBar } from "./filter_bar.js";
import { Grid } from "./grid.js";
import { showHelp } from "./help.js";
import { icon } from "./icons.js";
import { addKeys, startKeys } from "./keys.js";
import { MapView } from "./map_view.js";
import { showError } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Player } from "./player.js";
import { ReviewView } from "./review_view.js";
import { ScoresView } from "./scores_view.js";
import { colourMap, setColourMap } from "./sheets.js";
import { SliceDialog } from "./slice_dialog.js";
import { followSound, soundAddress } from "./sound.js";
import { startTheme, switchTheme } from "./theme.js";
import { viewQuery } from "./view.js";
import { count, many } from "./words.js";

const VIEWS = [
  { name: "", title: "Grid", key: "g" },
  { name: "map", title: "Map", key: "m" },
  { name: "scores", title: "Scores", key: "c" },
  { name: "errors", title: "Errors", key: "e" },
  { name: "review", title: "Review", key: "v" },
];

class Page {
  #player = new Player();
  #facets = new Facets();
  #nothing = element(
    "p.empty",
    { hidden: true },
    "No slice is like that. Remove a filter to see more.",
  );
  #grid = new Grid(
    {
      open: (place, rows) => go({ row: rows.at(place)?.row }),
      play: (row, tile) => this.#play(row, tile),
      changed: (rows) => this.#counted(rows),
    },
    localStorage.getItem("melbank.size") ?? "medium",
  );
  #bar = new FilterBar({ resize: (size) => this.#grid.setSize(size) });
  #map = new MapView();
  #scores = new ScoresView();
  #errors = new ErrorsView();
  #review = null;
  #slice;
  #shown = null; // what the grid shows
  #isJudged = false; // there are verdicts that the grid does not know of
  #unfollow = () => {};

  constructor() {
    const outbox = new Outbox((_, confirmed) => {
      if (confirmed) this.#review?.confirmed(confirmed);
      if (confirmed) this.#isJudged = true;
      this.#review?.changed();
    });
    this.#review = new ReviewView(this.#player, outbox);
    const list = () => ({ rows: this.#grid.rows, focus: (place) => this.#grid.focus(place) });
    this.#slice = new SliceDialog(this.#player, list);
    drawTop();
    this.#addKeys();
    onAddress(() => this.update());
    find("#main").addEventListener("pointerdown", () => showFacets(false));
  }

  /** Shows what the address says. */
  update() {
    const view = value("view");
    drawViews(view);
    find("#body").classList.toggle("wide", view === "map" || view === "review");
    if (view !== "review") this.#review.close();
    const shows = {
      map: this.#map,
      scores: this.#scores,
      errors: this.#errors,
      review: this.#review,
    };
    const head = shows[view];
    if (view === "map" || view === "review") {
      place([head.root]);
      head.show();
    } else {
      place([this.#bar.root, head?.root, this.#nothing, this.#grid.root]);
      this.#bar.draw();
      const force = this.#isJudged;
      if (force) this.#shown = null;
      this.#isJudged = false;
      head?.draw({ force });
      this.#facets.refresh({ force });
      this.#showGrid(head ? head.query() : viewQuery());
    }
    this.#slice.update();
  }

  #showGrid(query) {
    const text = query.toString();
    if (text === this.#shown) return;
    this.#shown = text;
    this.#grid.show(query);
  }

  #counted(rows) {
    this.#bar.showTotal(rows.total);
    this.#nothing.hidden = rows.total !== 0;
    this.#grid.root.hidden = rows.total === 0;
  }

  #play(row, tile) {
    if (!config.audio) {
      showError(new Error(config.audio_reason));
      return;
    }
    this.#unfollow();
    const source = soundAddress({ row: row.row });
    const cursor = find(".cursor", tile);
    const times = { source: () => source, start_s: 0, end_s: config.slice_s };
    this.#unfollow = followSound(this.#player, cursor, times);
    this.#player.toggle(source);
  }

  #addKeys() {
    const views = VIEWS.map(({ name, key }) => [
      key,
      () => go({ view: name || null, row: null, queue: null }),
    ]);
    addKeys(Object.fromEntries(views));
    addKeys({
      "/": () => find("#sql")?.focus(),
      Escape: () => showFacets(false),
    });
    addKeys({ "?": showHelp, d: switchTheme }, { everywhere: true });
    const isFree = (event) => event.target === document.body || event.target.id === "main";
    const enter = (event) =>
      isFree(event) && this.#grid.root.isConnected ? this.#grid.focus(0) : false;
    addKeys({ ArrowDown: enter, ArrowRight: enter });
  }
}

/** Changes what the main part holds, without touching what stays. */
function place(parts) {
  const main = find("#main");
  const wanted = parts.filter(Boolean);
  const isSame =
    wanted.length === main.children.length && wanted.every((one, at) => main.children[at] === one);
  if (!isSame) main.replaceChildren(...wanted);
}

function drawTop() {
  const hours = config.hours >= 0.05 ? `, ${count(Math.round(config.hours * 10) / 10)} h` : "";
  const about = [config.store, `${many(config.num_slices, "slice")}${hours}`, config.experiment];
  find("#store").textContent = about.filter(Boolean).join(" · ");
  document.title = `${config.store} - melbank`;
  const button = (label, picture, onclick) =>
    element(
      "button.quiet",
      { type: "button", "aria-label": label, title: label, onclick },
      picture,
    );
  fill(
    find("#tools"),
    coloursField(),
    fileButton(),
    button("Light or dark", icon("theme"), switchTheme),
    button("Keys", "?", showHelp),
  );
  find("#home").addEventListener("click", (event) => follow(event, ""));
}

function coloursField() {
  const options = config.colours.map((name) =>
    element("option", { value: name, selected: name === colourMap() }, name),
  );
  const onchange = (event) => setColourMap(event.target.value);
  return element("select.colours", { "aria-label": "Colours of spectrograms", onchange }, options);
}

function drawViews(view) {
  const links = VIEWS.map(({ name, title }) => {
    const patch = { view: name || null, row: null, queue: null, item: null };
    const href = `?${changed(patch)}`;
    const current = name === view ? "page" : undefined;
    return element(
      "a",
      { href, "aria-current": current, onclick: (event) => follow(event, patch) },
      title,
    );
  });
  fill(find("#views"), links);
}

/** A link of the page itself; with Ctrl it opens in another tab as usual. */
function follow(event, patch) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (patch) go(patch);
  else go(Object.fromEntries([...address().keys()].map((name) => [name, null])));
}

async function start() {
  startTheme();
  try {
    await loadConfig();
  } catch (error) {
    showError(error);
    return;
  }
  startAddress();
  startKeys();
  startDrop();
  new Page().update();
}

start();
