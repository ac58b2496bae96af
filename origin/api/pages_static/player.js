// The player: hls.js over a Route, or the browser's own HLS where hls.js cannot run.

import { tiersOf } from "./cachestatus.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;
const MEDIA_MENDS = 2; // times a decoder is started again before the viewer is told

// The first rung is chosen by what this browser measured last; a cautious guess before it measured anything.
const REMEMBERED = "headwater-throughput";
const GUESS_BPS = 2_000_000;
const REMEMBER_AT_MOST_BPS = 50_000_000;

const LOADS = {
  maxTimeToFirstByteMs: 6000,
  maxLoadTimeMs: 60_000,
  timeoutRetry: { maxNumRetry: 3, retryDelayMs: 0, maxRetryDelayMs: 0 },
  errorRetry: { maxNumRetry: 5, retryDelayMs: 250, maxRetryDelayMs: 2000, shouldRetry: isWorthAnotherTry },
};

/**
 * hls.js would take another rung at once where there is no answer (status 0) or a refusal. Here the next try goes to another edge
 * or under a fresh grant, and the rung is as good as it was.
 */
function isWorthAnotherTry(policy, tries, isTimeout, response, hlsWould) {
  const status = response?.code ?? 0;
  return hlsWould || (tries < policy.maxNumRetry && (status === 0 || status === 403));
}

/** The class of hls.js, or null when the origin has no player library or the browser no Media Source Extensions. */
export async function playerLibrary() {
  try {
    const { default: Hls } = await import("./hls.min.mjs");
    return Hls.isSupported() ? Hls : null;
  } catch {
    return null;
  }
}

/**
 * Events, each with `detail`: `segment` {kind, number, rung, tiers, bytes, ms}, `rungs` (the menu changed), `rung` (another one plays),
 * `trouble` {text | null}.
 */
export class Player extends EventTarget {
  constructor(video, route, Hls) {
    super();
    this.video = video;
    this.route = route;
    this.Hls = Hls;
    this.hls = null;
    this.native = false;
    this.wanted = "auto"; // or a rung, such as "h264/720p"
    this._bases = new WeakMap(); // request → the base it used
    this._pauseMs = FIRST_PAUSE_MS;
    this._mends = 0;
    this._again = 0;
    this._troubled = false;
  }

  /** Attaches the source that the route names. Throws Error when this browser can play no HLS. */
  start() {
    if (this.Hls) {
      this.hls = this._attached(0);
      this.hls.attachMedia(this.video);
    } else if (this.video.canPlayType("application/vnd.apple.mpegurl")) {
      this.native = true;
      this._playNatively(0);
      this.video.addEventListener("error", () => this._leaveNatively());
      this.route.addEventListener("change", () => this._playNatively(this.video.currentTime));
    } else {
      throw new Error("This browser can play neither Media Source Extensions nor HLS.");
    }
  }

  /** The rungs that can be chosen, best first: [{rung, label, height, bitsPerSecond}]. */
  rungs() {
    const levels = this.hls?.levels ?? [];
    return levels.map((level) => ({ rung: rungOf(level.url), label: labelOf(level), height: level.height, bitsPerSecond: level.bitrate })).reverse();
  }

  /** The rung on the screen, or null. */
  rung() {
    const level = this.hls?.levels?.[this.hls.currentLevel >= 0 ? this.hls.currentLevel : this.hls.loadLevel];
    return level ? { rung: rungOf(level.url), label: labelOf(level), bitsPerSecond: level.bitrate } : null;
  }

  /** Plays `rung` from the next segment on; "auto" lets the throughput decide. */
  choose(rung) {
    this.wanted = rung;
    this._applyChoice();
    this._tell("rungs");
  }

  /** Seconds that can be played without another byte. */
  bufferedS() {
    const { buffered, currentTime } = this.video;
    for (let index = 0; index < buffered.length; index += 1) {
      if (buffered.start(index) <= currentTime + 0.1 && currentTime <= buffered.end(index)) return buffered.end(index) - currentTime;
    }
    return 0;
  }

  throughput() {
    return this.hls?.bandwidthEstimate ?? NaN;
  }

  /** Reads the master manifest again, because rungs joined; playback goes on out of the buffer where the browser can hand it over. */
  reload() {
    if (!this.hls) return;
    const former = this.hls;
    const position = this.video.currentTime;
    const next = this._attached(position);
    next.once(this.Hls.Events.MANIFEST_PARSED, () => {
      const handed = former.transferMedia();
      former.destroy();
      next.attachMedia(handed ?? this.video);
      this.hls = next;
      this._applyChoice();
      this._tell("rungs");
    });
  }

  close() {
    clearTimeout(this._again);
    this.hls?.destroy();
    this.hls = null;
  }

  _attached(startPosition) {
    const { Hls } = this;
    const hls = new Hls({
      enableWorker: false, // fMP4 needs no remuxing, and the page's policy allows no workers
      contentSteeringController: undefined, // the route of this page moves every request itself
      startPosition,
      startLevel: -1,
      testBandwidth: false,
      abrEwmaDefaultEstimate: Number(localStorage.getItem(REMEMBERED)) || GUESS_BPS,
      capLevelToPlayerSize: true,
      backBufferLength: 30,
      fragLoadPolicy: { default: LOADS },
      playlistLoadPolicy: { default: LOADS },
      manifestLoadPolicy: { default: LOADS },
      xhrSetup: (request, url) => {
        this._bases.set(request, this.route.base);
        request.open("GET", this.route.url(url), true);
      },
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => hls === this.hls && this._tell("rungs"));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this._tell("rung"));
    hls.on(Hls.Events.FRAG_LOADED, (_, loaded) => this._segment(loaded));
    hls.on(Hls.Events.ERROR, (_, error) => this._failed(hls, error));
    hls.loadSource(this.route.answer.hls);
    return hls;
  }

  _applyChoice() {
    const index = this.hls.levels.findIndex((level) => rungOf(level.url) === this.wanted);
    if (index < 0) this.wanted = "auto";
    // Setting it flushes what lies ahead: not worth it when nothing changes.
    if (index >= 0 || !this.hls.autoLevelEnabled) this.hls.nextLevel = index;
  }

  _segment({ frag, networkDetails }) {
    this._clearTrouble();
    localStorage.setItem(REMEMBERED, Math.round(Math.min(REMEMBER_AT_MOST_BPS, this.throughput())) || GUESS_BPS);
    const { loading, total } = frag.stats;
    this._tell("segment", {
      kind: frag.type === "audio" ? "audio" : "video",
      number: frag.sn,
      rung: rungOf(frag.url) ?? "",
      tiers: tiersOf(headerOf(networkDetails, "cache-status")),
      bytes: total,
      ms: loading.end - loading.start,
    });
  }

  async _failed(hls, error) {
    // A load that the player itself called off, for another rung say, tells nothing of the edge.
    if (hls !== this.hls || error.details === this.Hls.ErrorDetails.INTERNAL_ABORTED) return;
    if (error.type === this.Hls.ErrorTypes.NETWORK_ERROR) await this._networkFailed(hls, error);
    else if (error.fatal) this._mediaFailed(hls, error);
  }

  async _networkFailed(hls, error) {
    const base = this._bases.get(error.networkDetails);
    if (base === undefined || base === this.route.base) await this._elsewhere(error.networkDetails?.status ?? error.response?.code ?? 0);
    if (!error.fatal || hls !== this.hls) return;
    // hls.js gave up. What failed is asked for again from here, at growing pauses: there is nothing else left to do.
    if (this.bufferedS() < 1) this._trouble("No edge answers. Trying again.");
    clearTimeout(this._again);
    this._again = setTimeout(() => this._loadAgain(hls), this._pauseMs);
    this._pauseMs = Math.min(LONGEST_PAUSE_MS, this._pauseMs * 2);
  }

  /** What an answer's status asks for: 403 a fresh grant, no answer or a server's error another edge, 404 and the like neither. */
  async _elsewhere(status) {
    if (status === 403) await this.route.renew();
    else if (status === 0 || status >= 500) await this.route.leave();
  }

  _loadAgain(hls) {
    if (hls !== this.hls) return;
    if (hls.levels.length) hls.startLoad();
    else hls.loadSource(this.route.answer.hls);
  }

  _mediaFailed(hls, error) {
    this._mends += 1;
    if (this._mends <= MEDIA_MENDS && error.type === this.Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else this._trouble(`This browser could not play the stream: ${error.reason ?? error.details}.`);
  }

  _playNatively(position) {
    const playing = !this.video.paused;
    this.video.src = this.route.answer.hls;
    this.video.currentTime = position;
    if (playing) this.video.play().catch(() => {});
  }

  async _leaveNatively() {
    const moved = await this.route.leave(); // `change` then sets the new source
    if (moved) return;
    this._trouble("No edge answers. Trying again.");
    clearTimeout(this._again);
    this._again = setTimeout(() => this._playNatively(this.video.currentTime), this._pauseMs);
    this._pauseMs = Math.min(LONGEST_PAUSE_MS, this._pauseMs * 2);
  }

  _trouble(text) {
    this._troubled = true;
    this._tell("trouble", { text });
  }

  _clearTrouble() {
    this._pauseMs = FIRST_PAUSE_MS;
    if (!this._troubled) return;
    this._troubled = false;
    this._tell("trouble", { text: null });
  }

  _tell(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** "h264/720p" of …/h264/720p/playlist.m3u8. */
function rungOf(url) {
  return /\/([^/]+\/[^/]+)\/[^/]+$/.exec(String(url).split("?")[0])?.[1] ?? null;
}

function labelOf(level) {
  const [, name] = (rungOf(level.url) ?? "").split("/");
  return name || `${Math.min(level.width, level.height)}p`;
}

/** A header of a finished request; asking for one that is not exposed by name would be an error in the console. */
function headerOf(request, name) {
  const lines = request?.getAllResponseHeaders?.().split("\r\n") ?? [];
  const line = lines.find((header) => header.toLowerCase().startsWith(`${name}:`));
  return line ? line.slice(name.length + 1).trim() : "";
}
