// A plan as operators judge it: which POP gives buckets to which, load against capacity, what would be cold, and what is wrong.

import { counted, percent, rate, short, size } from "./format.js";
import { made } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 600;
const SIDE = 118; // for the names at either side
const ROW = 34;
const GAP = 10;
const CHANGES_SHOWN = 12;

/** The moves between POPs, largest first: [{source, target, buckets, bytes}]; a bucket counts for each region that moves. Pure. */
export function movesOfPops(plan) {
  const popOf = new Map(plan.edges.map((edge) => [edge.name, edge.pop]));
  const sums = new Map();
  for (const move of plan.moves) {
    const [source, target] = [popOf.get(move.source) ?? move.source, popOf.get(move.target) ?? move.target];
    if (source === target) continue;
    const key = JSON.stringify([source, target]);
    const sum = sums.get(key) ?? { source, target, buckets: 0, bytes: 0 };
    sum.buckets += move.pairs;
    sum.bytes += move.cold_bytes;
    sums.set(key, sum);
  }
  return [...sums.values()].sort((a, b) => b.buckets - a.buckets);
}

/** The plan's elements, in the order in which they are read. */
export function planParts(plan) {
  if (!plan.changes.length && !plan.moved_buckets) return [...findings(plan), made("p", "Nothing changes.", "quiet")];
  const of = plan.total_bps ? "traffic" : "buckets";
  const lead = made("p", undefined, "plan-lead");
  lead.append(made("strong", `${short(plan.moved_buckets)} buckets move`), `, ${percent(plan.moved_share)} of all ${of}. `);
  lead.append(made("span", `Traffic: ${plan.measured}, ${rate(plan.total_bps)} in all.`, "quiet"));
  return [...findings(plan), lead, ...drawn(plan), popTable(plan), fills(plan), changes(plan)];
}

function findings(plan) {
  const kinds = [["impossible", "Cannot be done", ""], ["refusals", "Would not hold", ""], ["warnings", "To look out for", "notice"]];
  return kinds.filter(([kind]) => plan[kind].length).map(([kind, title, mood]) => {
    const alert = made("div", undefined, `alert ${mood}`);
    const list = made("ul");
    list.append(...plan[kind].map((one) => made("li", `${one.what}. Cure: ${one.cure}.`)));
    alert.append(made("h3", title), list);
    return alert;
  });
}

function drawn(plan) {
  const moves = movesOfPops(plan);
  if (!moves.length) return [];
  const figure = made("figure", undefined, "moves");
  figure.append(ribbons(moves), made("figcaption", told(moves), "quiet"));
  return [figure];
}

const told = (moves) => moves.map((one) => `${one.source} → ${one.target}: ${counted(one.buckets, "bucket")}`).join(", ");

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Who gives at the left, who gains at the right, ribbons as wide as the buckets that move. */
function ribbons(moves) {
  const total = moves.reduce((sum, one) => sum + one.buckets, 0);
  const sides = ["source", "target"].map((side) => [...new Set(moves.map((one) => one[side]))]);
  const high = Math.max(...sides.map((names) => names.length)) * (ROW + GAP);
  const unit = (high - Math.max(...sides.map((names) => names.length)) * GAP) / total;
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${high}`, role: "img", "aria-label": told(moves) });
  const [left, right] = sides.map((names, at) => places(names, moves, at ? "target" : "source", unit));
  for (const move of moves) {
    const width = move.buckets * unit;
    const [from, to] = [left.get(move.source), right.get(move.target)];
    const [y, z, x, w] = [from.next, to.next, SIDE, WIDE - SIDE];
    from.next += width;
    to.next += width;
    const middle = WIDE / 2;
    const path = `M${x},${y} C${middle},${y} ${middle},${z} ${w},${z} L${w},${z + width} C${middle},${z + width} ${middle},${y + width} ${x},${y + width} Z`;
    picture.append(svg("path", { d: path }));
  }
  for (const [name, place] of left) picture.append(...label(name, place, SIDE - 10, "end", "−"));
  for (const [name, place] of right) picture.append(...label(name, place, WIDE - SIDE + 10, "start", "+"));
  return picture;
}

function places(names, moves, side, unit) {
  let y = GAP / 2;
  return new Map(names.map((name) => {
    const buckets = moves.filter((one) => one[side] === name).reduce((sum, one) => sum + one.buckets, 0);
    const place = { top: y, next: y, high: buckets * unit, buckets };
    y += Math.max(place.high, ROW) + GAP;
    return [name, place];
  }));
}

function label(name, place, x, anchor, sign) {
  const y = place.top + place.high / 2;
  return [
    svg("text", { x, y: y - 2, "text-anchor": anchor }, name),
    svg("text", { x, y: y + 14, "text-anchor": anchor, class: "quiet" }, `${sign}${place.buckets}`),
  ];
}

function popTable(plan) {
  const table = made("table", undefined, "plan-pops");
  const head = made("tr");
  for (const name of ["POP", "Buckets", "Load now", "Load after", "Full", "Cold"]) head.append(heading(name));
  table.append(made("thead"), made("tbody"));
  table.tHead.append(head);
  for (const pop of plan.pops) {
    const row = made("tr");
    if (pop.buckets_before !== pop.buckets_after || pop.gained || pop.lost) row.className = "moved";
    const name = made("th", pop.name);
    name.scope = "row";
    name.append(" ", made("span", pop.region, "quiet"));
    const full = pop.capacity_bps ? pop.load_after_bps / pop.capacity_bps : null;
    const last = made("td", full === null ? "" : percent(full), full !== null && full > 1 ? "number bad" : "number");
    const buckets = pop.buckets_before === pop.buckets_after ? `${pop.buckets_after}` : `${pop.buckets_before} → ${pop.buckets_after}`;
    row.append(name, cell("Buckets", buckets), cell("Load now", rate(pop.load_before_bps)), cell("Load after", rate(pop.load_after_bps)), last,
      cell("Cold", pop.cold_bytes ? size(pop.cold_bytes) : "–"));
    last.dataset.label = "Full";
    table.tBodies[0].append(row);
  }
  return table;
}

function heading(name) {
  const head = made("th", name, name === "POP" ? "" : "number");
  head.scope = "col";
  return head;
}

function cell(label, text) {
  const element = made("td", text, "number");
  element.dataset.label = label;
  return element;
}

function fills(plan) {
  const { shield_fills: shield, origin_fills: origin } = plan;
  return made("p", shield.objects
    ? `Cold at their new edges: ${counted(shield.objects, "hot object")}, ${size(shield.bytes)}, asked of the shields; of these ${short(origin.objects)}, ${size(origin.bytes)}, of the origin. The handoff fetches them before viewers move.`
    : "Nothing that is hot becomes cold.", "quiet");
}

function changes(plan) {
  const lines = plan.changes.map((one) => one.text);
  const restarts = plan.restart.map((one) => `${one.node} takes this only when it is started again: ${one.text}`);
  const details = made("details");
  const list = made("ul", undefined, "lines");
  const rest = lines.length - CHANGES_SHOWN;
  list.append(...[...lines.slice(0, CHANGES_SHOWN), ...(rest > 0 ? [`… and ${rest} more`] : []), ...restarts].map((line) => made("li", line)));
  details.append(made("summary", `${counted(lines.length, "change")}${plan.steps.length ? `, in ${counted(plan.steps.length, "step")}: ${plan.steps.join(" → ")}` : ""}`), list);
  details.open = true;
  return details;
}
