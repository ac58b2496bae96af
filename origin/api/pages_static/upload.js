// Sends one file: parts to pre-signed URLs, each with its SHA-256; what arrived before a reload is not sent again.

import { ApiProblem, ask, problemOf, videoAt } from "./api.js";
import { md5 } from "./md5.js";

const AT_ONCE = 3;
const TRIES = 5;
const FIRST_PAUSE_MS = 500;
const ROUNDS = 4; // of sending what is missing; a part that never arrives intact is not sent for ever
const SENT_AGAIN = new Set(["parts-damaged", "parts-missing"]);

/** The unfinished upload of the same file, remembered by the browser: name, size and time of change stand for the file. */
const memory = {
  key: (file) => `headwater-upload:${file.name}:${file.size}:${file.lastModified}`,
  get: (file) => localStorage.getItem(memory.key(file)),
  set: (file, videoId) => localStorage.setItem(memory.key(file), videoId),
  forget: (file) => localStorage.removeItem(memory.key(file)),
};

/**
 * Uploads `file`; `progress(sentBytes)` is called as bytes leave. Returns the video id.
 * Throws ApiProblem with what the origin said, or AbortError when `signal` says stop.
 */
export async function upload(file, { title, description }, progress, signal) {
  let plan = (await resumed(file)) ?? (await begun(file, title, description));
  for (let round = 1; ; round += 1) {
    await sendMissing(file, plan, progress, signal);
    try {
      await ask(`${videoAt(plan.videoId)}/upload/complete`, { method: "POST", body: {}, patienceMs: 60_000 });
      break;
    } catch (error) {
      // A part that was damaged where it lies is named, and has not arrived any more: it alone is sent again.
      if (round === ROUNDS || !SENT_AGAIN.has(error.kind)) throw error;
      plan = { ...plan, ...(await parts(plan.videoId)) };
    }
  }
  memory.forget(file);
  return plan.videoId;
}

/** A few parts at a time; what has arrived counts as sent. */
async function sendMissing(file, { videoId, parts, partSize }, progress, signal) {
  const sent = new Map(parts.filter((part) => part.arrived).map((part) => [part.number, part.size]));
  const report = () => progress([...sent.values()].reduce((sum, count) => sum + count, 0));
  report();
  const waiting = headAndIndexFirst(parts.filter((part) => !part.arrived));
  const worker = async () => {
    for (let part = waiting.shift(); part; part = waiting.shift()) {
      const start = (part.number - 1) * partSize;
      await sendPart(videoId, part, file.slice(start, start + part.size), signal, (count) => {
        sent.set(part.number, count);
        report();
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** The first and the last part say what is in most files: the origin begins to make what viewers see first of them. */
function headAndIndexFirst(missing) {
  return missing.length > 2 ? [missing[0], missing.at(-1), ...missing.slice(1, -1)] : missing;
}

async function parts(videoId) {
  const plan = await ask(`${videoAt(videoId)}/upload`);
  return { parts: plan.parts, partSize: plan.part_size };
}

async function begun(file, title, description) {
  const body = {
    title,
    description,
    size: file.size,
    content_type: file.type || "application/octet-stream",
    filename: file.name,
  };
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  const { video_id: videoId, upload: plan } = await ask("/api/v1/videos", { method: "POST", body, headers });
  memory.set(file, videoId);
  return { videoId, parts: plan.parts, partSize: plan.part_size };
}

async function resumed(file) {
  const videoId = memory.get(file);
  if (!videoId) return null;
  try {
    const { status } = await ask(videoAt(videoId));
    if (status !== "uploading") throw new ApiProblem(409, "upload-over", "That upload is finished.");
    return { videoId, ...(await parts(videoId)) };
  } catch (error) {
    if (error.status === 0) throw error;
    memory.forget(file); // finished, collected or deleted: a new upload begins
    return null;
  }
}

async function sendPart(videoId, part, blob, signal, progress) {
  const bytes = await blob.arrayBuffer();
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  let pause = FIRST_PAUSE_MS;
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      const { url, headers } = await placeOf(videoId, part, bytes, sha256);
      await put(url, bytes, headers, signal, progress);
      return progress(part.size);
    } catch (error) {
      progress(0);
      // What the origin refused with a reason stays refused; a lost connection and a server's error are tried again.
      if (error.name === "AbortError" || attempt === TRIES || (error.status > 0 && error.status < 500)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause *= 2;
    }
  }
}

/** Where the part goes and with which headers. A store that is not the origin's own wants its MD5 signed. */
async function placeOf(videoId, part, bytes, sha256) {
  if (part.url) return { url: part.url, headers: { "Content-Digest": `sha-256=:${base64(sha256)}:` } };
  const said = { number: part.number, sha256: hex(sha256), md5: hex(md5(bytes)) };
  const { parts } = await ask(`${videoAt(videoId)}/upload/parts`, { method: "POST", body: { parts: [said] } });
  return parts[0];
}

/** XMLHttpRequest, because fetch tells nothing while it sends. */
function put(url, bytes, headers, signal, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal.addEventListener("abort", stop, { once: true });
    request.open("PUT", url);
    for (const [name, text] of Object.entries(headers)) request.setRequestHeader(name, text);
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onerror = () => reject(new ApiProblem(0, "unreachable", "The connection to the object store was lost."));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) return resolve();
      let content = null;
      try {
        content = JSON.parse(request.responseText);
      } catch {
        // not a problem document; the status has to do
      }
      reject(problemOf(request, content));
    };
    request.send(bytes);
  });
}

function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
