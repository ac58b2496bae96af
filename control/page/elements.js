// Elements of the page: found, made and changed in place.

export const $ = (id) => document.getElementById(id);
export const copy = (id) => $(id).content.cloneNode(true);
export const part = (root, name) => root.querySelector(`[data-is="${name}"]`);

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function made(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

export function button(text, className, act) {
  const element = made("button", text, className);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

export function fill(bar, share) {
  bar.hidden = share === null;
  if (share !== null) bar.firstElementChild.style.width = `${Math.min(100, share * 100).toFixed(1)}%`;
}

/** Replaces the children only when `facts` differ from what was shown, so that focus and selection outlive an update. */
export function shown(place, facts) {
  const text = JSON.stringify(facts);
  if (place.dataset.shown === text) return true;
  place.dataset.shown = text;
  return false;
}
