// Sound files that are dropped on the page, or chosen: slices that sound like them.

import { go } from "./address.js";
import { config } from "./config.js";
import { element, find } from "./dom.js";
import { icon } from "./icons.js";
import { showError, showNotice } from "./notices.js";
import { attempt, upload } from "./server.js";
import { many } from "./words.js";

/** Takes files from anywhere on the page. */
export function startDrop() {
  if (!config.can_upload) return;
  const veil = find("#drop");
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    veil.hidden = true;
    findAlike(event.dataTransfer.files[0]);
  });
}

/** The same by a button, for those who do not drag. */
export function fileButton() {
  if (!config.can_upload) return null;
  const field = element("input", {
    type: "file",
    id: "file",
    hidden: true,
    accept: "audio/*,.wav,.flac,.ogg,.mp3",
    onchange: () => findAlike(field.files[0]),
  });
  const label = "Find slices that sound like a file";
  const attributes = {
    type: "button",
    "aria-label": label,
    title: label,
    onclick: () => field.click(),
  };
  return [field, element("button.quiet", attributes, icon("alike"))];
}

async function findAlike(file) {
  if (!file) return;
  if (file.size > config.max_upload_bytes) {
    showError(
      new Error(`${file.name} is too large: cut it to ${config.max_upload_bytes / 2 ** 20} MB.`),
    );
    return;
  }
  showNotice(`Reading ${file.name}`);
  const told = await attempt(() => upload("/api/uploads", { name: file.name }, file));
  if (!told) return;
  showNotice(`${told.name}: ${many(told.slices, "slice")}. These of the store sound most like it.`);
  go({ view: null, row: null, like: `upload:${told.upload}`, sort: null, queue: null });
}
