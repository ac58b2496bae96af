// The controls over the picture: play, seek with pictures, sound, quality, full screen; by mouse, finger and keyboard.

import { element, icon, setText } from "./elements.js";
import { clock, rate } from "./format.js";
import { cueAt } from "./storyboard.js";

const HIDE_AFTER_MS = 2600;
const STEP_S = 5;
const VOLUME_STEP = 0.1;
const SEEK_STEPS = 1000;

export class Controls {
  /** `stage` is the element that holds the video; it becomes the full-screen element. */
  constructor(stage, video) {
    this.stage = stage;
    this.video = video;
    this.player = null;
    this.cues = [];
    this._hide = 0;
    this._seeking = false;
    this._build();
    this._follow();
  }

  /** The player whose rungs the menu shows. */
  use(player) {
    this.player = player;
    player.addEventListener("rungs", () => this._showRungs());
    player.addEventListener("rung", () => this._showRungs());
    this._showRungs();
  }

  _build() {
    const button = (name, label, onclick, extra = {}) =>
      element("button", { type: "button", class: "control", "aria-label": label, title: label, onclick, ...extra }, icon(name));
    this.playButton = button("play", "Play (space)", () => this.togglePlay());
    this.muteButton = button("sound", "Mute (m)", () => this.toggleMute());
    this.fullButton = button("full", "Full screen (f)", () => this.toggleFull());
    this.volume = element("input", { type: "range", class: "volume", min: 0, max: 1, step: 0.05, "aria-label": "Volume" });
    this.seek = element("input", { type: "range", class: "seek", min: 0, max: SEEK_STEPS, step: 1, value: 0, "aria-label": "Position" });
    this.time = element("span", { class: "time" }, "0:00 / 0:00");
    this.thumb = element("div", { class: "thumb-picture" });
    this.thumbTime = element("span", { class: "thumb-time" });
    this.preview = element("div", { class: "preview", hidden: true, "aria-hidden": "true" }, this.thumb, this.thumbTime);
    this.menu = element("div", { class: "menu", role: "menu", hidden: true, "aria-label": "Quality" });
    this.quality = element(
      "button",
      { type: "button", class: "control quality", "aria-haspopup": "menu", "aria-expanded": "false", onclick: () => this._toggleMenu() },
      icon("quality"),
      element("span", { class: "quality-now" }, "Auto"),
    );
    this.big = element("button", { type: "button", class: "big-play", "aria-label": "Play", onclick: () => this.togglePlay() }, icon("play"));
    this.bar = element(
      "div",
      { class: "controls" },
      element("div", { class: "seek-row" }, this.preview, this.seek),
      element(
        "div",
        { class: "button-row" },
        this.playButton,
        this.muteButton,
        this.volume,
        this.time,
        element("span", { class: "spring" }),
        element("div", { class: "menu-anchor" }, this.quality, this.menu),
        this.fullButton,
      ),
    );
    this.stage.append(this.big, this.bar);
  }

  _follow() {
    const { video, stage, seek } = this;
    for (const name of ["play", "pause", "ended", "seeked"]) video.addEventListener(name, () => this._showState());
    for (const name of ["timeupdate", "durationchange", "progress"]) video.addEventListener(name, () => this._showTime());
    video.addEventListener("volumechange", () => this._showVolume());
    video.addEventListener("waiting", () => (stage.dataset.waiting = ""));
    for (const name of ["playing", "seeked", "pause"]) video.addEventListener(name, () => delete stage.dataset.waiting);
    video.addEventListener("click", () => this.togglePlay());
    video.addEventListener("dblclick", () => this.toggleFull());
    seek.addEventListener("input", () => this._seekTo((seek.value / SEEK_STEPS) * this._lengthS()));
    seek.addEventListener("pointermove", (event) => this._preview(event));
    for (const name of ["pointerleave", "pointercancel", "blur"]) seek.addEventListener(name, () => (this.preview.hidden = true));
    this.volume.addEventListener("input", () => this._setVolume(Number(this.volume.value)));
    stage.addEventListener("pointermove", () => this._wake());
    stage.addEventListener("focusin", () => this._wake());
    document.addEventListener("fullscreenchange", () => this._showFull());
    document.addEventListener("pointerdown", (event) => this.menu.contains(event.target) || this.quality.contains(event.target) || this._closeMenu());
    document.addEventListener("keydown", (event) => this._key(event));
    this._showVolume();
    this._showState();
  }

  togglePlay() {
    if (this.video.paused) this.video.play().catch(() => this._showState());
    else this.video.pause();
  }

  toggleMute() {
    this.video.muted = !this.video.muted;
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.stage.requestFullscreen) this.stage.requestFullscreen().catch(() => {});
    else this.video.webkitEnterFullscreen?.(); // iPhones give full screen to the video alone
  }

  /** Seconds of the whole video, of which a part may not be made yet. */
  _lengthS() {
    const { duration } = this.video;
    return Math.max(Number.isFinite(duration) ? duration : 0, this.totalS ?? 0);
  }

  _seekTo(seconds) {
    const { video } = this;
    if (!Number.isFinite(seconds) || !Number.isFinite(video.duration)) return;
    video.currentTime = Math.min(Math.max(0, seconds), video.duration);
    this._showTime();
  }

  _setVolume(level) {
    this.video.volume = Math.min(1, Math.max(0, level));
    this.video.muted = this.video.volume === 0;
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") return this._closeMenu(true);
    const target = event.target;
    if (target.matches?.("input:not([type=range]), textarea, select, [role=menu] *")) return;
    // Space and Enter on a focused control belong to that control; arrows on a slider to the slider.
    if (event.key === " " && target.closest?.("a, button, summary")) return;
    const onVolume = target === this.volume;
    const actions = {
      " ": () => this.togglePlay(),
      k: () => this.togglePlay(),
      f: () => this.toggleFull(),
      m: () => this.toggleMute(),
      ArrowLeft: onVolume ? null : () => this._seekTo(this.video.currentTime - STEP_S),
      ArrowRight: onVolume ? null : () => this._seekTo(this.video.currentTime + STEP_S),
      ArrowUp: () => this._setVolume(this.video.volume + VOLUME_STEP),
      ArrowDown: () => this._setVolume(this.video.volume - VOLUME_STEP),
    };
    // Up and down scroll the page unless the player has the focus.
    if (event.key.startsWith("Arrow") && /Up|Down/.test(event.key) && !this.stage.contains(target)) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
    this._wake();
  }

  _wake() {
    delete this.stage.dataset.idle;
    clearTimeout(this._hide);
    this._hide = setTimeout(() => {
      if (!this.video.paused && this.menu.hidden && !this.bar.matches(":focus-within:has(:focus-visible)")) this.stage.dataset.idle = "";
    }, HIDE_AFTER_MS);
  }

  _showState() {
    const { video } = this;
    const name = video.ended ? "replay" : video.paused ? "play" : "pause";
    const label = { replay: "Play again (space)", play: "Play (space)", pause: "Pause (space)" }[name];
    this._face(this.playButton, name, label);
    this.big.hidden = !video.paused || this.stage.dataset.state !== "playable";
    this._wake();
  }

  _showTime() {
    const { video, seek } = this;
    const { currentTime } = video;
    const duration = this._lengthS();
    setText(this.time, `${clock(currentTime)} / ${clock(duration)}`);
    if (!(duration > 0)) return;
    seek.value = (currentTime / duration) * SEEK_STEPS;
    seek.setAttribute("aria-valuetext", `${clock(currentTime)} of ${clock(duration)}`);
    let loaded = currentTime;
    for (let index = 0; index < video.buffered.length; index += 1) {
      if (video.buffered.start(index) <= currentTime + 0.5) loaded = Math.max(loaded, video.buffered.end(index));
    }
    seek.style.setProperty("--played", `${(currentTime / duration) * 100}%`);
    seek.style.setProperty("--loaded", `${(loaded / duration) * 100}%`);
  }

  _showVolume() {
    const silent = this.video.muted || this.video.volume === 0;
    this._face(this.muteButton, silent ? "muted" : "sound", silent ? "Sound on (m)" : "Mute (m)");
    this.volume.value = silent ? 0 : this.video.volume;
    this.volume.style.setProperty("--played", `${(silent ? 0 : this.video.volume) * 100}%`);
  }

  _showFull() {
    const full = document.fullscreenElement === this.stage;
    this._face(this.fullButton, full ? "small" : "full", full ? "Leave full screen (f)" : "Full screen (f)");
  }

  _face(button, name, label) {
    if (button.dataset.face === name) return;
    button.dataset.face = name;
    button.replaceChildren(icon(name));
    button.setAttribute("aria-label", label);
    button.title = label;
  }

  _preview(event) {
    const { seek, preview } = this;
    const box = seek.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const seconds = share * this._lengthS();
    if (!Number.isFinite(seconds)) return;
    const cue = cueAt(this.cues, seconds);
    setText(this.thumbTime, clock(seconds));
    this.thumb.hidden = !cue;
    if (cue) {
      const { style } = this.thumb;
      style.width = `${cue.width}px`;
      style.height = `${cue.height}px`;
      style.backgroundImage = `url("${cue.url}")`;
      style.backgroundPosition = `-${cue.x}px -${cue.y}px`;
    }
    preview.hidden = false;
    const half = preview.offsetWidth / 2;
    preview.style.left = `${Math.min(box.width - half, Math.max(half, share * box.width))}px`;
  }

  _toggleMenu() {
    if (!this.menu.hidden) return this._closeMenu(true);
    this.menu.hidden = false;
    this.quality.setAttribute("aria-expanded", "true");
    this.menu.querySelector("[aria-checked=true]")?.focus();
  }

  _closeMenu(giveFocusBack = false) {
    if (this.menu.hidden) return;
    this.menu.hidden = true;
    this.quality.setAttribute("aria-expanded", "false");
    if (giveFocusBack) this.quality.focus();
  }

  _showRungs() {
    const { player } = this;
    const now = player.rung();
    const auto = player.wanted === "auto";
    const item = (rung, label, note) =>
      element(
        "button",
        {
          type: "button",
          role: "menuitemradio",
          "aria-checked": String(player.wanted === rung),
          "data-rung": rung,
          onclick: () => {
            player.choose(rung);
            this._closeMenu(true);
          },
          onkeydown: (event) => this._menuKey(event),
        },
        element("span", {}, label),
        element("span", { class: "menu-note" }, note),
      );
    const rungs = player.rungs();
    this.menu.replaceChildren(
      item("auto", "Auto", auto && now ? now.label : ""),
      ...rungs.map(({ rung, label, bitsPerSecond }) => item(rung, label, rate(bitsPerSecond))),
    );
    const text = auto ? (now ? `Auto · ${now.label}` : "Auto") : (rungs.find(({ rung }) => rung === player.wanted)?.label ?? "Auto");
    setText(this.quality.querySelector(".quality-now"), text);
    this.quality.setAttribute("aria-label", `Quality: ${text}`);
    this.quality.hidden = player.native;
  }

  _menuKey(event) {
    const items = [...this.menu.children];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = items.indexOf(event.currentTarget);
    items[(at + step + items.length) % items.length].focus();
  }
}
