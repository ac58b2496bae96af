// The watch page: waits until the video is playable, plays it, and tells how it was delivered.

import { ask, ApiProblem, videoAt } from "./api.js";
import { Controls } from "./controls.js";
import { DeliveryPanel } from "./delivery.js";
import { offerDeletion } from "./deletion.js";
import { byId, element, setText } from "./elements.js";
import { ago, bytes, clock, frameRate, isUnfinished, percent, span, stateInWords } from "./format.js";
import { Player, playerLibrary } from "./player.js";
import { Route } from "./route.js";
import { parseStoryboard } from "./storyboard.js";

const FOLLOW_MS = 1000;
const FOLLOW_AFTER_ERROR_MS = 4000;
const REFRESH_MS = 250;

const videoId = decodeURIComponent(location.pathname.split("/")[2]);
const region = new URLSearchParams(location.search).get("region");
const stage = byId("stage");
const picture = byId("picture");
const opened = performance.now();

const route = new Route(videoId, region);
const panel = new DeliveryPanel(byId("delivery"));
const controls = new Controls(stage, picture);
let player = null;
let startedS = null;
let rungsReady = null; // when the page last looked; null before anything played

/** Shows the video's words and follows it until nothing changes any more. */
async function follow() {
  let pause = FOLLOW_MS;
  try {
    const video = await ask(videoAt(videoId));
    const making = isUnfinished(video) ? await ask(`${videoAt(videoId)}/making`) : null;
    describe(video, making);
    offerDeletion(video);
    if (video.status === "ready" && !player) await play();
    const ready = video.renditions.filter(({ kind, state }) => kind === "video" && state === "ready").length;
    if (player && rungsReady !== null && ready > Math.max(1, rungsReady)) {
      panel.note(`${ready} rungs are ready now`, picture.currentTime);
      player.reload();
    }
    if (player) rungsReady = ready;
    if (!isUnfinished(video)) return;
  } catch (error) {
    if (!(error instanceof ApiProblem)) throw error;
    if (error.status === 410) return message("This video was deleted", "Its creator or an operator removed it.");
    if (error.status === 404) return message("There is no such video", "It may have been deleted, or the address is not complete.");
    const title = error.status ? "The origin refused" : "The origin does not answer";
    if (!player) message(title, `${error.message} This page tries again by itself.`, "bad");
    pause = FOLLOW_AFTER_ERROR_MS;
  }
  setTimeout(follow, pause);
}

function describe(video, making) {
  controls.totalS = video.duration_s;
  document.title = `${video.title} · Headwater`;
  setText(byId("title"), video.title);
  setText(byId("description"), video.description);
  byId("description").hidden = !video.description;
  const state = stateInWords(video);
  byId("state").dataset.tone = state.tone;
  setText(byId("state"), state.text);
  const facts = [
    video.duration_s && clock(video.duration_s),
    video.width && `${video.width}×${video.height}`,
    frameRate(video.frame_rate),
    bytes(video.size_bytes),
    `uploaded ${ago(video.created_at, Date.now() / 1000)}`,
  ];
  setText(byId("facts"), facts.filter(Boolean).join(" · "));
  byId("tags").replaceChildren(...video.tags.map((tag) => element("li", {}, tag)));
  showRenditions(video.renditions, making?.ready_in_s ?? {});
  byId("waits").hidden = !making?.waits_for;
  setText(byId("waits"), making?.waits_for ? `Now: ${making.waits_for}` : "");
  if (player) return;
  if (video.status === "failed") message("This video could not be processed", video.failure?.detail ?? "No reason was recorded.", "bad");
  else if (video.status === "uploading") message("Waiting for the upload", "The file has not arrived completely. This page goes on by itself.");
  else if (video.status === "processing") {
    message(`Processing, ${percent(video.progress)}`, "It plays here as soon as its first seconds are made.", "busy", video.progress ?? 0);
  }
}

function showRenditions(renditions, readyIn) {
  byId("renditions").hidden = renditions.length === 0;
  byId("renditions-list").replaceChildren(
    ...renditions.map((rendition) => {
      const ready = rendition.state === "ready";
      const expected = readyIn[`${rendition.codec}/${rendition.rung}`];
      const share = rendition.state === "encoding" ? percent(rendition.progress) : "planned";
      const text = ready ? "ready" : expected === undefined ? share : `${share}, ${span(expected)}`;
      const meter = element("span", { class: "meter" });
      meter.style.setProperty("--share", ready ? 1 : (rendition.progress ?? 0));
      return element("li", { "data-state": rendition.state }, element("span", {}, `${rendition.codec}/${rendition.rung}`), meter, element("span", { class: "quiet" }, text));
    }),
  );
}

async function play() {
  const answer = await route.open();
  if (answer.status !== "playable") {
    if (answer.reason) message("Not playable yet", answer.reason, "busy");
    return;
  }
  const started = new Player(picture, route, await playerLibrary());
  try {
    watchPlayer(started);
    started.start();
  } catch (error) {
    return message("Nothing to play it with", `${error.message} The player library may be missing on the origin (npm ci).`, "bad");
  }
  player = started;
  stage.dataset.state = "playable";
  byId("message").hidden = true;
  byId("delivery").hidden = false;
  if (answer.poster) picture.poster = answer.poster;
  controls.use(player);
  panel.showRoute(route);
  if (!player.native) route.follow(); // a browser's own HLS player follows the manifest's steering itself
  loadStoryboard(answer.storyboard);
  setInterval(() => panel.showPlayer(player, route, startedS), REFRESH_MS);
  picture.play().catch(() => controls._showState()); // browsers may ask for a gesture first
}

function watchPlayer(started) {
  const begun = performance.now();
  picture.addEventListener("playing", () => (startedS ??= (performance.now() - begun) / 1000), { once: true });
  started.addEventListener("segment", ({ detail }) => panel.showSegment(detail));
  started.addEventListener("trouble", ({ detail }) => {
    byId("trouble").hidden = !detail.text;
    setText(byId("trouble"), detail.text ?? "");
  });
  route.addEventListener("change", ({ detail }) => {
    panel.showRoute(route);
    if (detail.reason === "renewed") panel.note("The grant was renewed", picture.currentTime);
    else if (detail.reason === "moved") panel.note(`Steered from ${detail.from.name} to ${detail.to.name}`, picture.currentTime);
    else panel.note(`${detail.from.name} stopped answering; ${detail.to.name} took over`, picture.currentTime);
  });
}

/** Without a storyboard the seek bar shows times alone. */
async function loadStoryboard(url) {
  if (!url) return;
  const answer = await fetch(url).catch(() => null);
  if (answer?.ok) controls.cues = parseStoryboard(await answer.text(), url);
}

function message(title, text, tone = "busy", progress = null) {
  stage.dataset.state = tone;
  byId("message").hidden = false;
  byId("message").dataset.tone = tone;
  setText(byId("message-title"), title);
  setText(byId("message-text"), text);
  const bar = byId("message-progress");
  bar.hidden = progress === null;
  if (progress !== null) bar.value = progress;
}

addEventListener("pagehide", () => route.close());
follow();
