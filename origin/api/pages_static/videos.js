// The list of videos: newest first, by pages; what is being processed is followed.

import { ask } from "./api.js";
import { byId, element, icon, setText } from "./elements.js";
import { ago, clock, isUnfinished, stateInWords } from "./format.js";
import { offerUpload } from "./upload-form.js";

const PAGE = 24;
const FOLLOW_MS = 1500;
const REST_MS = 6000;

const list = byId("videos");
const more = byId("more");
const cards = new Map(); // video id → {root, show}
let unfinished = new Set();
let nextCursor = null;
let timer = 0;

/** One video's card; `show` brings it up to date without touching what has not changed. */
function card(videoId) {
  const link = element("a", { href: `/watch/${videoId}` });
  const picture = element("img", { alt: "", loading: "lazy", decoding: "async" });
  picture.addEventListener("load", () => (picture.dataset.loaded = ""));
  picture.addEventListener("error", () => delete picture.dataset.loaded);
  const badge = element("span", { class: "badge", hidden: true });
  const state = element("span", { class: "state" });
  const meta = element("span", { class: "meta quiet" });
  const progress = element("progress", { max: 1, value: 0, "aria-label": "Processing", hidden: true });
  const poster = element("span", { class: "poster" }, icon("play"), picture, badge);
  const root = element("li", { class: "card", "data-video": videoId }, poster, link, meta, state, progress);
  const show = (video) => {
    const words = stateInWords(video);
    root.dataset.state = video.status;
    setText(link, video.title);
    setText(badge, clock(video.duration_s));
    badge.hidden = !video.duration_s;
    setText(meta, [video.height && `${Math.min(video.width, video.height)}p`, ago(video.created_at, Date.now() / 1000)].filter(Boolean).join(" · "));
    state.dataset.tone = words.tone;
    state.hidden = words.tone === "good";
    setText(state, words.text);
    progress.hidden = words.progress === null;
    progress.value = words.progress ?? 0;
    showPoster(picture, video.poster);
  };
  return { root, show };
}

/** A poster's URL carries a fresh grant each time; the picture is the same and is not loaded again. */
function showPoster(picture, url) {
  const path = url ? url.slice(url.indexOf("/videos/")) : "";
  if (picture.dataset.path === path) return;
  picture.dataset.path = path;
  if (url) picture.src = url;
}

function show(videos, place) {
  for (const video of videos) {
    if (!cards.has(video.video_id)) {
      const made = card(video.video_id);
      cards.set(video.video_id, made);
      place(made.root);
    }
    cards.get(video.video_id).show(video);
    if (isUnfinished(video)) unfinished.add(video.video_id);
    else unfinished.delete(video.video_id);
  }
}

async function pageAt(cursor) {
  const query = new URLSearchParams({ limit: PAGE });
  if (cursor) query.set("cursor", cursor);
  return ask(`/api/v1/videos?${query}`);
}

/** The first page again: new videos go on top, known ones are brought up to date. */
async function refresh() {
  clearTimeout(timer);
  const first = cards.size === 0;
  try {
    const { videos, next_cursor: cursor } = await pageAt(null);
    if (first) nextCursor = cursor;
    // Newest first: the last of the new ones is put on top first.
    if (first) show(videos, (root) => list.append(root));
    else show([...videos].reverse(), (root) => list.prepend(root));
    more.hidden = nextCursor === null;
    notice(cards.size ? "" : "Nothing here yet. Upload a video with the button above, or with “headwater upload FILE”.");
  } catch (error) {
    notice(`${error.message} This page tries again by itself.`);
  }
  if (!document.hidden) timer = setTimeout(refresh, unfinished.size ? FOLLOW_MS : REST_MS);
}

async function showMore() {
  more.disabled = true;
  try {
    const { videos, next_cursor: cursor } = await pageAt(nextCursor);
    show(videos, (root) => list.append(root));
    nextCursor = cursor;
    more.hidden = cursor === null;
  } catch (error) {
    notice(error.message);
  }
  more.disabled = false;
}

function notice(text) {
  byId("notice").hidden = !text;
  setText(byId("notice"), text);
}

more.addEventListener("click", showMore);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
offerUpload();
refresh();
