// The origin's API. Errors are RFC 9457 problem documents; here they become `ApiProblem` with the same words.

import { authorization } from "./token.js";

export class ApiProblem extends Error {
  constructor(status, kind, detail) {
    super(detail);
    this.name = "ApiProblem";
    this.status = status; // 0: no answer at all
    this.kind = kind;
  }
}

const PATIENCE_MS = 8000;

/** The JSON of an answer. Throws ApiProblem, also when nobody answers within `patienceMs`. */
export async function ask(path, { method = "GET", body = null, headers = {}, patienceMs = PATIENCE_MS } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...(body === null ? {} : { "Content-Type": "application/json" }), ...authorization(), ...headers },
      body: body === null ? null : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(patienceMs),
    });
  } catch (error) {
    const why = error.name === "TimeoutError" ? `no answer within ${patienceMs / 1000} s` : "no answer";
    throw new ApiProblem(0, "unreachable", `The origin cannot be reached: ${why}.`);
  }
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw problemOf(answer, content);
  return content;
}

export function problemOf(answer, content) {
  const kind = String(content?.type ?? "").split(":").pop() || "unknown";
  const detail = content?.detail || content?.title || `The origin answered ${answer.status}.`;
  return new ApiProblem(answer.status, kind, detail);
}

export function videoAt(videoId) {
  return `/api/v1/videos/${encodeURIComponent(videoId)}`;
}
