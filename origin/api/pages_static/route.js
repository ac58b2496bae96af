// A watch's way to its bytes: which edge, under which grant, and where to go next.
//
// References in manifests are relative and the grant is part of the path, so every URL of a video is
// `{edge}/{grant}/videos/{id}/…`. What stands before `/videos/{id}/` is the *base*. Another edge or a renewed grant is another
// base for the same objects: the player keeps its manifests and its buffer, and only its next request goes elsewhere.

import { ask, videoAt } from "./api.js";

const ASK_PATIENCE_MS = 3000;
const AVOID_FOR_MS = 60_000; // an edge that failed is left alone for this long
const RENEW_AT_LEFT_S = 120; // a grant is renewed when this much of it is left, or a tenth of it if that is less
const RENEW_RETRY_MS = 10_000;
const FIRST_LOOK_MS = 2000; // at what the edge says of where to play; later looks come as often as it says
const LOOK_PATIENCE_MS = 2000;
const TIMES_HEEDED = 3; // one advice may be ahead of the API; an API that knows better is not asked for ever
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** `url` with everything before `/videos/{id}/` replaced by `base`; other URLs stay as they are. */
export function rebased(url, videoId, base) {
  const at = url.indexOf(`/videos/${videoId}/`);
  return at < 0 ? url : base + url.slice(at);
}

/** What stands before `/videos/{id}/` in a playback URL: scheme, edge and grant. */
export function baseOf(url, videoId) {
  const at = url.indexOf(`/videos/${videoId}/`);
  if (at < 0) throw new Error(`no URL of video ${videoId}: ${url}`);
  return url.slice(0, at);
}

/** How long a grant is used before it is renewed, in ms. Times are Unix seconds. */
export function renewDelayMs(expiresAt, now) {
  const left = expiresAt - now;
  const margin = Math.min(RENEW_AT_LEFT_S, left / 10);
  return Math.min(LONGEST_TIMER_MS, Math.max(1000, (left - margin) * 1000));
}

/** Events: `change` {detail: {reason: "failed" | "renewed" | "moved", from, to}} after the base changed. */
export class Route extends EventTarget {
  constructor(videoId, region = null) {
    super();
    this.videoId = videoId;
    this.region = region;
    this.answer = null;
    this.base = "";
    this.edge = null; // {name, pop, region, address}
    this.regions = new Set(); // all that answers named; a failed edge's region stays
    this._avoided = new Map(); // edge name → until when, ms
    this._moving = null;
    this._timer = 0;
    this._looking = 0;
    this._advice = { order: "", heeded: 0 };
  }

  /** Asks the API which edge to use. Returns its answer, playable or not. Throws ApiProblem. */
  async open() {
    const answer = await this._playback();
    if (answer.status === "playable") this._take(answer);
    return answer;
  }

  url(original) {
    return rebased(original, this.videoId, this.base);
  }

  /** Moves away from the present edge. Returns whether there was somewhere to go. Calls at the same time share one move. */
  leave() {
    this._moving ??= this._move().finally(() => (this._moving = null));
    return this._moving;
  }

  /** Asks for a fresh grant. Returns whether there is one; the edge may change with it. */
  async renew() {
    try {
      const answer = await this._playback();
      if (answer.status !== "playable") return false;
      const from = this.edge;
      this._take(answer);
      this._changed("renewed", from);
      return true;
    } catch {
      // The grant at hand is still good for a while; the API may be back before it ends.
      this._renewIn(RENEW_RETRY_MS);
      return false;
    }
  }

  /**
   * From now on goes where the edge's steering manifest leads, as players do that follow Content Steering: when another edge is to
   * serve this viewer, as after a drain, the API is asked anew. What is buffered stays; the next request goes elsewhere.
   */
  follow() {
    this._lookIn(FIRST_LOOK_MS);
  }

  close() {
    clearTimeout(this._timer);
    clearTimeout(this._looking);
  }

  _lookIn(delayMs) {
    clearTimeout(this._looking);
    this._looking = setTimeout(() => this._look(), delayMs);
  }

  async _look() {
    let pauseMs = AVOID_FOR_MS;
    try {
      const told = await fetch(`${this.base}/videos/${this.videoId}/steering.json`, { signal: AbortSignal.timeout(LOOK_PATIENCE_MS) });
      if (told.ok) {
        const { TTL, "PATHWAY-PRIORITY": order } = await told.json();
        pauseMs = Math.max(1, Number(TTL) || 0) * 1000;
        if (order[0] !== "." && !this._moving) await this._heed(order);
      }
    } catch {
      // An edge that does not answer is left when a segment fails, not for this.
    }
    this._lookIn(pauseMs);
  }

  async _heed(order) {
    if (this._advice.order !== String(order)) this._advice = { order: String(order), heeded: 0 };
    if (this._advice.heeded >= TIMES_HEEDED) return;
    this._advice.heeded += 1;
    const from = this.edge;
    try {
      const answer = await this._playback();
      if (answer.status === "playable") this._take(answer);
    } catch {
      this._useEdge(order.map((name) => this._known().find((edge) => edge.name === name)).find(Boolean));
    }
    if (this.edge.name !== from.name) this._changed("moved", from);
  }

  _known() {
    return [this.answer.edge, ...this.answer.alternates];
  }

  async _move() {
    const from = this.edge;
    this._avoided.set(from.name, Date.now() + AVOID_FOR_MS);
    try {
      const answer = await this._playback();
      if (answer.status === "playable") this._take(answer);
    } catch {
      // The control plane is away too: the last answer named other edges, and the grant holds at every edge.
      this._useAlternate();
    }
    if (this.edge.name === from.name) return false;
    this._changed("failed", from);
    return true;
  }

  _useAlternate() {
    this._useEdge(this._known().find((edge) => edge.name !== this.edge.name && !this._avoids(edge.name)));
  }

  _useEdge(next) {
    if (!next) return;
    const address = new URL(this.base);
    this.base = `${address.protocol}//${next.address}${address.pathname}`;
    this.edge = next;
  }

  _avoids(name) {
    return (this._avoided.get(name) ?? 0) > Date.now();
  }

  _playback() {
    const query = new URLSearchParams();
    if (this.region) query.set("region", this.region);
    for (const name of this._avoided.keys()) if (this._avoids(name)) query.append("avoid", name);
    return ask(`${videoAt(this.videoId)}/playback?${query}`, { patienceMs: ASK_PATIENCE_MS });
  }

  _take(answer) {
    this.answer = answer;
    this.base = baseOf(answer.hls, this.videoId);
    this.edge = answer.edge;
    for (const edge of [answer.edge, ...answer.alternates]) this.regions.add(edge.region);
    this._renewIn(renewDelayMs(answer.expires_at, Date.now() / 1000));
  }

  _renewIn(delayMs) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this.renew(), delayMs);
  }

  _changed(reason, from) {
    this.dispatchEvent(new CustomEvent("change", { detail: { reason, from, to: this.edge } }));
  }
}
