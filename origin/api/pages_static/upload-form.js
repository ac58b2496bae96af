// The upload form above the list.

import { byId, icon, setText } from "./elements.js";
import { bytes, percent } from "./format.js";
import * as token from "./token.js";
import { upload } from "./upload.js";

const TOKEN_NEEDED =
  "Uploading needs an API token: paste yours above. “headwater tokens create NAME --scope upload” makes one; a lab prints a link that has it.";

/** Wires the form. It asks for a secure page, because browsers give SHA-256 to those alone. */
export function offerUpload() {
  const open = byId("upload-open");
  const brought = token.takeFromLink();
  askForToken(!token.kept());
  byId("token-forget").addEventListener("click", () => {
    token.keep("");
    askForToken(true);
  });
  open.append(icon("upload"), "Upload a video");
  open.addEventListener("click", () => {
    const form = byId("upload");
    form.hidden = !form.hidden;
    open.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) byId("file").focus();
  });
  if (brought) open.click(); // who follows an upload link wants to upload
  const input = byId("file");
  input.addEventListener("change", () => chosen(input.files[0]));
  const drop = byId("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    input.files = event.dataTransfer.files;
    chosen(input.files[0]);
  });
  byId("upload").addEventListener("submit", (event) => {
    event.preventDefault();
    send(input.files[0]);
  });
}

function chosen(file) {
  byId("upload-start").disabled = !file;
  if (!file) return;
  setText(byId("file-name"), `${file.name}, ${bytes(file.size)}`);
  if (!byId("upload-title").value) byId("upload-title").value = file.name.replace(/\.[^.]+$/, "");
  setText(byId("upload-state"), "");
}

async function send(file) {
  if (!file) return;
  if (byId("token").value) {
    token.keep(byId("token").value);
    askForToken(false);
  }
  if (!window.isSecureContext) return say("Browsers compute SHA-256 on secure pages only: open this page by https or at 127.0.0.1.");
  const stopper = new AbortController();
  const stop = byId("upload-stop");
  const bar = byId("upload-progress");
  const words = { title: byId("upload-title").value.trim() || file.name, description: byId("upload-description").value.trim() };
  stop.onclick = () => stopper.abort();
  busy(true);
  try {
    const videoId = await upload(file, words, (sent) => {
      bar.value = file.size ? sent / file.size : 0;
      say(`${percent(bar.value)} of ${bytes(file.size)} sent`);
    }, stopper.signal);
    say("Sent. Opening its page.");
    location.assign(`/watch/${videoId}`);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped. Upload the same file again to go on from here.");
    else if (error.kind === "token-missing") say(TOKEN_NEEDED);
    else say(error.message);
    if (error.status === 401 || error.kind === "token-scope") askForToken(true);
  }
  busy(false);

  function busy(running) {
    byId("upload-start").disabled = running;
    stop.hidden = !running;
    bar.hidden = !running;
  }
}

/** The field, or the button that forgets what it had. */
function askForToken(asked) {
  byId("token-row").hidden = !asked;
  byId("token-forget").hidden = asked;
  if (!asked) byId("token").value = "";
}

function say(text) {
  setText(byId("upload-state"), text);
}
