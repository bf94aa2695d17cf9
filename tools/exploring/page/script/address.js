// The state of the page is its address: every view can be sent, and the back button works.

const listeners = [];

/** The state as it is now: texts by name; names that are repeated give lists by `all`. */
export function address() {
  return new URLSearchParams(location.search);
}

export function value(name, otherwise = "") {
  return address().get(name) ?? otherwise;
}

/** The address after a change: {sort: "loss", species: ["a", "b"], row: null}. */
export function changed(patch) {
  const next = address();
  for (const [name, wanted] of Object.entries(patch)) {
    next.delete(name);
    const values = Array.isArray(wanted) ? wanted : [wanted];
    for (const one of values) {
      if (one !== null && one !== undefined && one !== "") next.append(name, one);
    }
  }
  next.delete("token");
  return next;
}

/** Changes the state; `replace` leaves no step for the back button. */
export function go(patch, { replace = false } = {}) {
  move(changed(patch), replace);
}

/** Goes to a state that knows nothing of the one before. */
export function goTo(state) {
  move(new URLSearchParams(state), false);
}

function move(next, replace) {
  const text = next.toString();
  if (text === address().toString()) return;
  const url = text ? `?${text}` : location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  announce();
}

/** Calls back after each change, also by the back button. */
export function onAddress(listener) {
  listeners.push(listener);
}

export function startAddress() {
  addEventListener("popstate", announce);
}

function announce() {
  for (const listener of listeners) listener();
}
