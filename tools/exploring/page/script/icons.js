// Icons of 20 by 20 units, drawn with the colour of the text around them.

const SPACE = "http://www.w3.org/2000/svg";
const PATHS = {
  play: "M6 3.8v12.4a.6.6 0 0 0 .92.5l9.5-6.2a.6.6 0 0 0 0-1L6.92 3.3A.6.6 0 0 0 6 3.8Z",
  pause: "M5.5 3.5h3v13h-3zM11.5 3.5h3v13h-3z",
  close: "M5 5l10 10M15 5L5 15",
  back: "M12.5 4l-6 6 6 6",
  next: "M7.5 4l6 6-6 6",
  filter: "M3 5h14M6 10h8M8.5 15h3",
  search: "M9 3.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11ZM13.2 13.2L17 17",
  theme: "M10 3a7 7 0 1 0 0 14ZM10 3a7 7 0 0 1 0 14",
  alike: "M4 13c1.5-6 3-6 4.5 0s3 6 4.5 0S15.5 7 17 7",
  recording: "M3 10h1.5M6.5 7v6M9 4v12M11.5 6.5v7M14 8.5v3M16.5 10h.5",
  check: "M4 10.5l4 4 8-9",
  no: "M5 5l10 10M15 5L5 15",
  unsure: "M7 7.5a3 3 0 1 1 4.5 2.6c-.9.5-1.5 1.1-1.5 2.2M10 15.6v.2",
  undo: "M7 4L3.5 7.5 7 11M4 7.5h7.5a4.25 4.25 0 0 1 0 8.5H8",
  down: "M10 3v10M5.5 9L10 13.5 14.5 9M4 17h12",
  lasso: "M10 4c4 0 7 1.8 7 4.2s-3 4.3-7 4.3-7-1.9-7-4.3S6 4 10 4ZM6 12c-1 1.5-.5 3.5 1.5 4",
};
const FILLED = new Set(["play", "pause"]);

/** The icon of a name, hidden from screen readers: what it does is said by its button. */
export function icon(name) {
  const picture = document.createElementNS(SPACE, "svg");
  picture.setAttribute("viewBox", "0 0 20 20");
  picture.setAttribute("aria-hidden", "true");
  picture.setAttribute("class", FILLED.has(name) ? "icon filled" : "icon");
  const path = document.createElementNS(SPACE, "path");
  path.setAttribute("d", PATHS[name]);
  picture.append(path);
  return picture;
}
