// Requests to the server: errors as sentences, and patience while it is busy or computing.

import { showError } from "./notices.js";

const WAIT_MS = 700;
const LONGEST_MS = 8000;
const AGAIN = 6; // tries of a request that got no answer at all

/** What the server says is wrong, in one sentence. */
export class ServerError extends Error {
  constructor(text, status) {
    super(text);
    this.name = "ServerError";
    this.status = status;
  }
}

/** The JSON answer of a path: `ask("/api/rows", query, {signal})`. */
export async function ask(path, query = "", options = {}) {
  const answer = await request(address(path, query), options);
  return answer.json();
}

/** Sends a JSON body; tries again until there is an answer. */
export async function send(path, body) {
  const answer = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    isRepeatable: true,
  });
  return answer.json();
}

/** Sends a file as it is. */
export async function upload(path, query, file) {
  const answer = await request(address(path, query), { method: "POST", body: file });
  return answer.json();
}

/** An answer of arrays of `count` values each: {header, arrays: {name: typed array}}. */
export async function askPacked(path, query = "", { count, ...options } = {}) {
  const answer = await request(address(path, query), options);
  return unpack(await answer.arrayBuffer(), count);
}

/** Does something and shows what went wrong; the answer is undefined then. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    showError(error);
    return undefined;
  }
}

export function address(path, query) {
  const text = query instanceof URLSearchParams ? query.toString() : searchText(query);
  return text ? `${path}?${text}` : path;
}

function searchText(query) {
  if (typeof query === "string") return query;
  const known = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(known).toString();
}

async function request(url, { onwait = () => {}, isRepeatable = false, ...options } = {}) {
  let failed = 0;
  for (let wait_ms = WAIT_MS; ; wait_ms = Math.min(wait_ms * 1.5, LONGEST_MS)) {
    try {
      const answer = await fetch(url, options);
      if (answer.ok) return answer;
      const told = await answer.json().catch(() => ({}));
      if (answer.status !== 503) throw new ServerError(told.error ?? reason(answer), answer.status);
      onwait(told);
    } catch (error) {
      failed += 1;
      if (error instanceof ServerError || error.name === "AbortError") throw error;
      if (!isRepeatable || failed >= AGAIN) throw new Error(UNREACHABLE);
    }
    await pause(wait_ms, options.signal);
  }
}

const UNREACHABLE = "The server does not answer: see whether tools.explore is still running.";

function reason(answer) {
  if (answer.status === 401)
    return "This page has expired: open the address that tools.explore printed.";
  return `The server answered ${answer.status} ${answer.statusText}.`;
}

function pause(wait_ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait_ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("no longer wanted", "AbortError"));
    });
  });
}

const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
};

function unpack(buffer, count) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let place = 4 + length;
  const arrays = {};
  for (const { name, type } of header.arrays) {
    place = Math.ceil(place / 8) * 8;
    arrays[name] = new TYPES[type](buffer, place, header.count ?? count);
    place += arrays[name].byteLength;
  }
  return { header, arrays };
}
