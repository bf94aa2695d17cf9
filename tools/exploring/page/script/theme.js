// Light and dark: that of the system, until the switch is pressed.

const KEY = "melbank.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Applies the choice of the last visit. */
export function startTheme() {
  const chosen = localStorage.getItem(KEY);
  if (chosen) document.documentElement.dataset.theme = chosen;
  dark.addEventListener("change", announce);
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

export function switchTheme() {
  const wanted = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = wanted;
  localStorage.setItem(KEY, wanted);
  announce();
}

/** Canvases draw themselves again. */
function announce() {
  document.dispatchEvent(new Event("theme"));
}

/** The value of a colour of the style sheet in the scheme that is shown, for canvases. */
export function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
