// Draws the status tree. Rows are kept and changed in place, so that focus, selection and open details outlive an update.

import { $, button, copy, fill, made, part, say } from "./elements.js";
import { clock, counted, duration, percent, rate, short, size } from "./format.js";

const TREND_POINTS = 60;
const trends = new Map();
const rows = new Map();
const TIER_NAMES = { edge: "Edges", shield: "Shields", origin: "Origin" };
let drainOf = () => {};

/** `drain(name, drained)` is called by the buttons of POPs and edges. */
export function draw(status, drain) {
  drainOf = drain;
  document.title = `${needsAttention(status) ? "● " : ""}${status.deployment} · Headwater`;
  drawTop(status);
  drawAlerts(status);
  drawTiers(status.tiers);
  drawNodes(status);
  drawHappenings(status);
}

function needsAttention(status) {
  return !status.config.in_force || status.nodes.some((node) => node.health === "down");
}

function drawTop(status) {
  const up = status.nodes.filter((node) => node.health === "up").length;
  say($("deployment"), `${status.deployment} · ${status.zone}`);
  say($("up"), `${up} of ${status.nodes.length}`);
  $("up").className = up === status.nodes.length ? "good" : "bad";
  const problems = status.config.problems.length;
  say($("config"), problems ? `refused, ${counted(problems, "problem")}` : "in force");
  $("config").className = problems ? "bad" : "good";
  say($("version"), String(status.version));
  const active = status.keys.filter((key) => key.state === "active").length;
  say($("keys"), status.keys.length ? `${active} active of ${status.keys.length}` : "none");
  $("keys").className = active ? "" : "bad";
}

function drawAlerts(status) {
  const alerts = [];
  if (!status.config.in_force) {
    alerts.push(["The config file has problems; the one before stays in force.", status.config.problems.map((one) => one.text)]);
  }
  if (status.key_error) alerts.push(["The key ring cannot be read; the keys published before stay.", [status.key_error]]);
  const waiting = status.nodes.filter((node) => node.restart.length);
  if (waiting.length) {
    const lines = waiting.map((node) => `${node.name}: ${node.restart.map(changed).join("; ")}`);
    alerts.push(["These nodes take the edit only when they are started again.", lines, "notice"]);
  }
  const text = JSON.stringify(alerts);
  if ($("alerts").dataset.shown === text) return;
  $("alerts").dataset.shown = text;
  $("alerts").hidden = alerts.length === 0;
  $("alerts").replaceChildren(...alerts.map(([title, lines, mood = ""]) => {
    const alert = made("div", undefined, `alert ${mood}`);
    const list = made("ul");
    list.append(...lines.map((line) => made("li", line)));
    alert.append(made("h2", title), list);
    return alert;
  }));
}

const changed = ({ path, before, after }) => `${path}: ${before ?? "absent"} → ${after ?? "absent"}`;

function drawTiers(tiers) {
  const edge = tiers.find((tier) => tier.tier === "edge");
  for (const tier of tiers) {
    let card = document.querySelector(`.tier[data-tier="${tier.tier}"]`);
    if (!card) {
      card = copy("tier").firstElementChild;
      card.dataset.tier = tier.tier;
      say(card.querySelector("h3"), TIER_NAMES[tier.tier]);
      $("tiers").append(card);
    }
    const isOrigin = tier.tier === "origin";
    // What the caches took off the origin's shoulders is the origin's figure of merit.
    const offload = edge.delivered_per_s > 0 ? Math.max(0, 1 - tier.requests_per_s / edge.delivered_per_s) : null;
    const ratio = isOrigin ? offload : tier.hit_ratio;
    say(part(card, "label"), isOrigin ? "Requests kept off" : "Hit ratio");
    say(part(card, "requests"), short(tier.requests_per_s));
    say(part(card, "egress"), rate(tier.egress_bps));
    say(part(card, "ratio"), percent(ratio));
    fill(part(card, "bar"), ratio ?? 0);
    drawTrend(card, tier.tier, tier.requests_per_s);
  }
}

function drawTrend(card, tier, requests) {
  const trend = trends.get(tier) ?? [];
  trends.set(tier, [...trend, requests].slice(-TREND_POINTS));
  const values = trends.get(tier);
  const top = Math.max(...values, 1);
  const points = values.map((value, at) => {
    const x = 120 - (values.length - 1 - at) * (120 / (TREND_POINTS - 1));
    return `${x.toFixed(1)},${(26 - (value / top) * 23).toFixed(1)}`;
  });
  card.querySelector("polyline").setAttribute("points", points.join(" "));
  const left = points[0].split(",")[0];
  card.querySelector("polygon").setAttribute("points", `${left},28 ${points.join(" ")} 120,28`);
}

/** Groups of the table, in the order of the read pipe: regions with their POPs, shields, origin, the rest. */
function groups(status) {
  const found = [];
  for (const region of status.regions) {
    for (const pop of region.pops) {
      const spill = region.spill.length ? `spills to ${region.spill.join(", ")}` : "";
      const ordered = status.drained.includes(pop.name);
      const weight = ordered || pop.weight === 0 ? "drained" : `weight ${short(pop.weight)}`;
      found.push({ key: `pop ${pop.name}`, title: `${region.name} / ${pop.name}`, note: [weight, spill].filter(Boolean).join(", "),
        nodes: status.nodes.filter((node) => node.pop === pop.name), drained: ordered || pop.weight === 0, pop: pop.name, ordered });
    }
  }
  const rest = { Shields: ["shield"], Origin: ["origin-api", "origin-bytes", "origin-transcoder"], "Steering and control": ["dns", "control"] };
  for (const [title, roles] of Object.entries(rest)) {
    found.push({ key: title, title, note: "", nodes: status.nodes.filter((node) => roles.includes(node.role)), drained: false });
  }
  return found;
}

function drawNodes(status) {
  const table = $("nodes");
  const wanted = groups(status);
  const order = JSON.stringify(wanted.map((group) => [group.key, group.nodes.map((node) => node.name)]));
  if (table.dataset.order !== order) {
    table.dataset.order = order;
    layOut(table, wanted);
  }
  for (const group of wanted) {
    const head = table.querySelector(`tbody[data-key="${CSS.escape(group.key)}"] .group`);
    say(head.querySelector(".note"), group.note);
    head.classList.toggle("drained", group.drained);
    if (group.pop) drawDrain(head.querySelector(".drain"), group.pop, group.ordered);
    for (const node of group.nodes) drawNode(rows.get(node.name), node, status, group.drained);
  }
}

function layOut(table, wanted) {
  const focused = document.activeElement;
  table.querySelectorAll("tbody").forEach((body) => body.remove());
  for (const group of wanted) {
    const body = made("tbody");
    body.dataset.key = group.key;
    body.setAttribute("role", "rowgroup");
    const head = made("tr", undefined, "group");
    head.setAttribute("role", "row");
    const cell = made("th");
    cell.colSpan = 7;
    cell.scope = "rowgroup";
    cell.setAttribute("role", "rowheader");
    cell.append(made("span", group.title), " ", made("span", "", "note quiet"));
    if (group.pop) cell.append(drainButton());
    head.append(cell);
    body.append(head);
    for (const node of group.nodes) body.append(...rowOf(node.name));
    table.append(body);
  }
  if (focused?.isConnected) focused.focus();
}

function rowOf(name) {
  if (!rows.has(name)) {
    const [row, more] = copy("node").children;
    const opener = row.querySelector("button");
    more.id = `more-${name}`;
    opener.setAttribute("aria-controls", more.id);
    opener.addEventListener("click", () => {
      more.hidden = !more.hidden;
      opener.setAttribute("aria-expanded", String(!more.hidden));
    });
    more.querySelector("td").append(drainButton());
    rows.set(name, [row, more]);
  }
  return rows.get(name);
}

/** What it does stands in its data, as the row outlives updates. */
const drainButton = () => button("Drain…", "drain", (event) => {
  const { name, drained } = event.currentTarget.dataset;
  drainOf(name, drained !== "true");
});

function drawDrain(element, name, drained) {
  say(element, drained ? "Undrain…" : "Drain…");
  element.setAttribute("aria-label", `${drained ? "Undrain" : "Drain"} ${name}`);
  Object.assign(element.dataset, { name, drained });
}

function drawNode([row, more], node, status, popDrained) {
  const drained = node.weight === 0 || node.drained || popDrained;
  row.dataset.health = node.health;
  row.classList.toggle("drained", drained);
  say(part(row, "name"), node.name);
  drawTags(part(row, "tags"), [drained && "drained", node.restart.length && "restart needed", certificateTag(node)].filter(Boolean));
  say(part(row, "health"), node.health);
  say(part(row, "since"), `for ${duration(status.now - node.since)}`);
  say(part(row, "weight"), node.weight === null ? "" : short(node.weight));
  const traffic = node.traffic;
  const cache = node.role === "edge" || node.role === "shield";
  say(part(row, "requests"), traffic && node.role !== "origin-transcoder" ? `${short(traffic.requests_per_s)}/s` : "");
  say(part(row, "egress"), traffic && (cache || node.role === "origin-bytes") ? rate(traffic.egress_bps) : "");
  fill(part(row, "load"), traffic && node.capacity_bps ? traffic.egress_bps / node.capacity_bps : null);
  say(part(row, "ratio"), traffic && cache ? percent(traffic.hit_ratio) : "");
  fill(part(row, "hit"), traffic && cache && traffic.hit_ratio !== null ? traffic.hit_ratio : null);
  const version = part(row, "version");
  say(version, node.current ? (node.version === null ? "not used" : "current") : node.version === null ? "none yet" : `behind ${duration(node.lag_s)}`);
  version.classList.toggle("behind", !node.current);
  drawMore(more.querySelector("dl"), node, status.now);
  const order = more.querySelector(".drain");
  order.hidden = node.role !== "edge";
  if (!order.hidden) drawDrain(order, node.name, status.drained.includes(node.name));
}

function drawTags(place, tags) {
  if (place.textContent === tags.join("")) return;
  place.replaceChildren(...tags.map((tag) => made("span", tag, "tag")));
}

/** What is wrong with a node's certificate, if anything. */
function certificateTag({ certificate }) {
  if (!certificate) return null;
  if (certificate.state === "enrolled") return certificate.late ? "certificate ends soon" : null;
  return certificate.state === "none" ? "not enrolled" : `certificate ${certificate.state}`;
}

function certificateFact({ state, expires_at: expires, revoked_at: revoked }, now) {
  if (state === "none") return "none: not enrolled";
  if (state === "revoked") return `revoked ${duration(now - revoked)} ago`;
  if (expires === null) return state;
  return state === "expired" ? `expired ${duration(now - expires)} ago` : `enrolled, for ${duration(expires - now)} more`;
}

function drawMore(list, node, now) {
  const facts = [["Serves at", node.address], ["Admin", node.admin], ["Holds snapshot", node.version ?? "none"]];
  if (node.certificate) facts.push(["Certificate", certificateFact(node.certificate, now)]);
  if (node.error) facts.push(["Last failed check", node.error]);
  if (node.capacity_bps) facts.push(["Capacity", rate(node.capacity_bps)]);
  if (node.traffic) facts.push(["Since its start", `${short(node.traffic.requests_total)} requests, ${size(node.traffic.sent_bytes_total)} sent`]);
  for (const one of node.restart) facts.push(["After a restart", changed(one)]);
  const text = JSON.stringify(facts);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...facts.map(([name, value]) => {
    const fact = made("div");
    fact.append(made("dt", name), made("dd", String(value)));
    return fact;
  }));
}

function drawHappenings({ happenings }) {
  const list = $("happenings");
  const text = JSON.stringify(happenings);
  if (list.dataset.shown === text) return;
  const latest = happenings[0];
  if (list.dataset.shown !== undefined && latest) say($("announced"), latest.text);
  list.dataset.shown = text;
  list.replaceChildren(...happenings.map((one) => {
    const item = made("li");
    item.dataset.kind = one.kind;
    const time = made("time", clock(one.at), "number quiet");
    time.dateTime = new Date(one.at * 1000).toISOString();
    item.append(time, made("span", one.kind, "tag"), made("span", one.text, "what"));
    return item;
  }));
  if (!happenings.length) list.append(made("li", "Nothing has happened since control started.", "quiet"));
}
