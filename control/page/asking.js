// Control's API as the page asks it: with the operator's token, every refusal an error that names its cure.

const KEY = "headwater-token";
const PATIENCE_MS = 5000;
export const ORDER_PATIENCE_MS = 60000;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `control answers ${status}`);
    this.status = status;
    this.kind = String(problem.type ?? "").split(":").pop();
    this.problem = problem;
  }
}

// The tab forgets it when it is closed, unless the operator asked to be remembered on this device.
export const token = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);

export function remember(text, longer) {
  forget();
  (longer ? localStorage : sessionStorage).setItem(KEY, text);
}

export function forget() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

/** The answer's members; GET without `members`. Throws Refused, or another error when control does not answer. */
export async function ask(path, members, patience = members ? ORDER_PATIENCE_MS : PATIENCE_MS) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (members) headers["Content-Type"] = "application/json";
  const answer = await fetch(`/api/v1/${path}`, {
    method: members ? "POST" : "GET",
    headers,
    body: members ? JSON.stringify(members) : undefined,
    signal: AbortSignal.timeout(patience),
    cache: "no-store",
  });
  const found = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, found);
  return found;
}
