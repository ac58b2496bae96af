// Logs in, asks control for its state every two seconds while the page is seen, and says so when control does not answer.

import { ask, forget, Refused, remember, token } from "./asking.js";
import { $, made, shown } from "./elements.js";
import { clock, counted } from "./format.js";
import { drain, drawRollout, prepare, reason, stopRollout } from "./orders.js";
import { draw } from "./view.js";

const EVERY_MS = 2000;
const CHANGES_EVERY = 5; // looks at the status between two at the audit log
const MOMENT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
let last = null;
let timer = 0;
let looks = 0;
let wasRolling = false;

async function look() {
  clearTimeout(timer);
  if (!token()) return logIn("");
  try {
    last = await ask("status");
    document.body.classList.remove("lost");
    document.body.classList.toggle("viewer", !last.you.scopes.includes("operate"));
    show(true);
    draw(last, drain);
    $("you").textContent = last.you.name;
    $("fresh").textContent = `As of ${clock(last.now)}, every 2 s.`;
    await lookFurther();
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) return logIn(error.message);
    lose(error);
  }
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

/** The audit log now and then, the rollout while there is one and once after it. */
async function lookFurther() {
  const rolling = last.rollout !== null;
  if (rolling || wasRolling || looks === 0) drawRollout((await ask("rollout")).rollout);
  if (looks % CHANGES_EVERY === 0 || rolling !== wasRolling) drawChanges((await ask("audit?limit=40")).lines);
  wasRolling = rolling;
  looks += 1;
}

function lose(error) {
  document.body.classList.add("lost");
  const when = last ? ` This is its state of ${clock(last.now)}.` : "";
  $("fresh").textContent = error instanceof Refused
    ? `Control refuses: ${error.message}`
    : `Control does not answer; nodes go on by their last snapshot.${when}`;
}

function drawChanges(lines) {
  const list = $("changes");
  if (shown(list, lines)) return;
  list.replaceChildren(...lines.map((line) => {
    const item = made("li");
    const time = made("time", new Date(line.at * 1000).toLocaleString("en-GB", MOMENT), "number quiet");
    time.dateTime = new Date(line.at * 1000).toISOString();
    const who = `${line.who}${line.login ? ` (${line.login})` : ""}${line.from ? ` from ${line.from}` : ""}`;
    const what = made("span", undefined, "what");
    what.append(`${line.detail}: ${line.outcome} `, made("span", who, "quiet"));
    item.append(time, made("span", line.what, "tag"), what);
    return item;
  }));
  if (!lines.length) list.append(made("li", "Nobody has changed anything yet.", "quiet"));
  $("changes-count").textContent = lines.length ? `the last ${counted(lines.length, "line")} of the audit log` : "";
}

function show(isIn) {
  $("login").hidden = isIn;
  for (const id of ["facts", "main", "account"]) $(id).hidden = !isIn;
}

/** Shows the form; `why` is what was wrong with the token that was shown. */
function logIn(why) {
  const asked = !$("login").hidden;
  show(false);
  document.body.classList.remove("lost");
  if ($("confirm").open) $("confirm").close();
  $("login-error").hidden = !why;
  $("login-error").textContent = why;
  $("fresh").textContent = "";
  if (!asked) $("login-token").focus();
}

/** `#token=hw_…`, as `headwater up` prints it: no server sees it, and the address forgets it at once. */
function takeFragment() {
  if (!location.hash.startsWith("#token=")) return;
  remember(location.hash.slice("#token=".length), false);
  history.replaceState(null, "", location.pathname);
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("login-token").value.trim();
  if (!text) return logIn("Paste a token first.");
  remember(text, $("login-keep").checked);
  $("login-go").disabled = true;
  try {
    await ask("status");
    $("login-token").value = "";
    looks = 0;
    await look();
    $("title").focus();
  } catch (error) {
    forget();
    logIn(reason(error));
    $("login-token").select();
  } finally {
    $("login-go").disabled = false;
  }
});

$("logout").addEventListener("click", () => {
  forget();
  logIn("");
});

$("rollout-stop").addEventListener("click", stopRollout);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
takeFragment();
prepare(() => {
  looks = 0;
  look();
});
look();
