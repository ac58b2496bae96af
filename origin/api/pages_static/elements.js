// Building the document: every text goes in as text, never as markup.

/** An element with attributes (`class`, `hidden`, `aria-label`, …), listeners (`onclick`, …) and children (nodes or strings). */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** One of the outline icons below, hidden from screen readers: the button around it has the words. */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  fill(drawing, { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, []);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Replaces the text only when it changed, so that a selection and a screen reader are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  replay: "M12 5V1.5L7 6l5 4.5V7a5.5 5.5 0 1 1-5.5 5.5h-2A7.5 7.5 0 1 0 12 5z",
  sound: "M4 9.5v5h3.5L12 19V5L7.5 9.5zM14.5 8.2v7.6a4 4 0 0 0 0-7.6zM14.5 4.2v2.1a6 6 0 0 1 0 11.4v2.1a8 8 0 0 0 0-15.6z",
  muted: "M4 9.5v5h3.5L12 19V5L7.5 9.5zM21 9.9 19.6 8.5 17.5 10.6 15.4 8.5 14 9.9l2.1 2.1-2.1 2.1 1.4 1.4 2.1-2.1 2.1 2.1 1.4-1.4-2.1-2.1z",
  full: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  small: "M8 4h2v6H4V8h4zM14 4h2v4h4v2h-6zM4 14h6v6H8v-4H4zM14 14h6v2h-4v4h-2z",
  quality: "M4 6h9v2H4zM17 6h3v2h-3zM13.5 4h2v6h-2zM4 16h3v2H4zM11 16h9v2h-9zM7.5 14h2v6h-2z",
  upload: "M11 16V8.8L8.4 11.4 7 10l5-5 5 5-1.4 1.4L13 8.8V16zM5 18h14v2H5z",
};
