// The delivery panel: who served each segment, what each tier did, and how the player stands.

import { element, setText } from "./elements.js";
import { clock, plural, rate, span } from "./format.js";

const KEPT = 48; // segments in the strips
const TIERS = ["edge", "shield", "origin"];
const OUTCOMES = {
  hit: "from its store",
  joined: "shared a running fill",
  miss: "asked its parent",
  asked: "read the object",
  idle: "not asked",
};
const FULL_BUFFER_S = 30;

export class DeliveryPanel {
  constructor(root) {
    this.root = root;
    this.counts = Object.fromEntries(TIERS.map((tier) => [tier, {}]));
    this.log = root.querySelector("[data-log]");
    this.strips = Object.fromEntries(TIERS.map((tier) => [tier, root.querySelector(`[data-strip=${tier}]`)]));
  }

  /** The edge that the route goes to, and links that watch as from another region. */
  showRoute(route) {
    const { edge } = route;
    this._set("edge", edge.name);
    this._set("pop", edge.pop);
    this._set("region", edge.region);
    this._showRegions(route, [...route.regions].sort());
  }

  /** One response; see Player's `segment`. */
  showSegment(segment) {
    for (const tier of TIERS) {
      const { name, outcome } = segment.tiers[tier];
      this.counts[tier][outcome] = (this.counts[tier][outcome] ?? 0) + 1;
      const what = `${segment.kind} segment ${segment.number}, ${segment.rung}: ${name || tier} ${OUTCOMES[outcome]}`;
      const cell = element("i", { "data-outcome": outcome, "data-kind": segment.kind, title: what });
      this.strips[tier].append(cell);
      while (this.strips[tier].children.length > KEPT) this.strips[tier].firstElementChild.remove();
      const words = this._inWords(tier);
      this._set(`${tier}-count`, words);
      this.strips[tier].setAttribute("aria-label", `${tier}: ${words}`);
    }
    this._set("edge", segment.tiers.edge.name || this._get("edge"));
    if (segment.tiers.shield.name) this._set("shield", segment.tiers.shield.name);
  }

  /** How the player stands now. */
  showPlayer(player, route, startedS) {
    const rung = player.rung();
    const buffered = player.bufferedS();
    this._set("rung", rung ? `${rung.label} · ${rate(rung.bitsPerSecond)}` : player.native ? "chosen by the browser" : "–");
    this._set("buffer", `${buffered.toFixed(1)} s`);
    this.root.querySelector("[data-buffer-bar]").style.setProperty("--share", Math.min(1, buffered / FULL_BUFFER_S));
    this._set("throughput", player.native ? "not told by the browser" : rate(player.throughput()));
    this._set("started", startedS === null ? "–" : `${startedS.toFixed(2)} s`);
    const quality = player.video.getVideoPlaybackQuality?.();
    this._set("dropped", quality ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : "–");
    this._set("grant", `ends in ${span(route.answer.expires_at - Date.now() / 1000)}`);
  }

  /** A line for what a viewer of the panel would otherwise miss, with the playback position. */
  note(text, position) {
    this.log.hidden = false;
    this.log.prepend(element("li", {}, element("time", {}, clock(position)), text));
    while (this.log.children.length > 6) this.log.lastElementChild.remove();
  }

  _inWords(tier) {
    const { hit = 0, joined = 0, miss = 0, asked = 0 } = this.counts[tier];
    if (tier === "origin") return asked ? plural(asked, "request") : "not asked";
    const told = [hit && plural(hit, "hit"), joined && `${joined} joined`, miss && plural(miss, "miss", "misses")].filter(Boolean);
    return told.join(", ") || "not asked";
  }

  _showRegions(route, regions) {
    const list = this.root.querySelector("[data-regions]");
    list.replaceChildren(
      ...regions.map((region) => {
        const here = region === route.edge.region;
        return element("a", { href: `?region=${encodeURIComponent(region)}`, "aria-current": here ? "true" : null }, region);
      }),
    );
    list.parentElement.hidden = regions.length < 2;
  }

  _set(name, text) {
    setText(this.root.querySelector(`[data-field=${name}]`), text);
  }

  _get(name) {
    return this.root.querySelector(`[data-field=${name}]`).textContent;
  }
}
