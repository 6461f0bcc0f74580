// Building and finding elements. Text goes in as text nodes only, so nothing from a data set can be
// markup.

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

/** Return an HTML element; attributes named on… are listeners, null and false leave one out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

export function pageData(id = "page-data") {
  const node = document.getElementById(id);
  return node ? JSON.parse(node.textContent) : null;
}

/** Return whether a key press belongs to what has the focus (a field, an open dialog), not to
 *  the page. */
export function isTyping(event) {
  if (document.querySelector("dialog[open]")) return true;
  const node = event.target;
  const field = node.matches?.(
    "textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=range])",
  );
  return Boolean(field || node.isContentEditable);
}

export function debounce(wait, action) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait);
  };
}

export const percent = (value) =>
  value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`;
export const decimal = (value, places = 2) =>
  value === null || value === undefined ? "–" : value.toFixed(places);

export function when(iso) {
  return iso
    ? new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })
    : "";
}
