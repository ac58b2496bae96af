// What operators do here: plan and apply a file, drain and undrain, purge. Everything that changes something is confirmed first.

import { ask } from "./asking.js";
import { $, button, made } from "./elements.js";
import { counted } from "./format.js";
import { planParts } from "./plan.js";

let afterOrder = () => {};
let planned = null; // {text, name} of the plan that is shown

/** `then` is called after every order, so that the page shows at once what it did. */
export function prepare(then) {
  afterOrder = then;
  $("plan-form").addEventListener("submit", previewed);
  $("plan-file").addEventListener("change", takeFile);
  $("plan-now").addEventListener("click", takeInForce);
  $("plan-text").addEventListener("input", forgetPlan);
  $("purge-form").addEventListener("submit", purging);
  $("purge-way").addEventListener("change", nameWay);
  nameWay();
}

// Plans

async function takeFile() {
  const [file] = $("plan-file").files;
  if (!file) return;
  $("plan-text").value = await file.text();
  $("plan-text").dataset.name = file.name;
  forgetPlan();
}

async function takeInForce() {
  await doing($("plan-now"), $("plan-shown"), async () => {
    const { in_force: number } = await ask("versions");
    if (number === null) throw new Error("Control keeps no version yet: it was started without a config file.");
    $("plan-text").value = (await ask(`versions/${number}`)).text;
    $("plan-text").dataset.name = `version ${number}, edited`;
    $("plan-text").focus();
    forgetPlan();
  });
}

function forgetPlan() {
  planned = null;
  $("plan-shown").replaceChildren();
}

async function previewed(event) {
  event.preventDefault();
  const text = $("plan-text").value;
  const name = $("plan-text").dataset.name ?? "the page's text";
  if (!text.trim()) return complain($("plan-shown"), new Error("Paste a config or choose a file first."));
  await doing($("plan-go"), $("plan-shown"), async () => {
    const plan = await ask("plan", { text, name });
    planned = { text, name };
    const bad = plan.impossible.length > 0;
    const apply = button("Apply…", "main", () => applying(plan));
    apply.disabled = bad || !plan.changes.length;
    $("plan-shown").replaceChildren(...planParts(plan), ...(document.body.classList.contains("viewer") ? [] : [apply]));
  });
}

async function applying(plan) {
  const order = { ...planned };
  await confirmed({
    title: `Apply ${order.name}?`,
    parts: [made("p", `${plan.summary}. It goes out in steps, and goes back by itself when a step does not hold.`), ...forceOf(plan)],
    go: "Apply",
    act: (dialog) => ask("apply", { ...order, force: forced(dialog) }),
  });
}

// Drains

/** Asks what a drain would move, then whether to do it. */
export async function drain(name, drained) {
  const word = drained ? "Drain" : "Undrain";
  let plan;
  const dialog = open(`${word} ${name}?`, [made("p", "Asking control what would move…", "quiet")]);
  try {
    plan = await ask("plan", { [drained ? "drain" : "undrain"]: [name] });
  } catch (error) {
    return complain(dialog.body, error);
  }
  if (!dialog.isOpen()) return;
  const order = (gently) => (box) => ask("drain", { names: [name], drained, gently, force: forced(box) });
  dialog.fill([...planParts(plan), ...forceOf(plan)], [
    [`${word} now`, "main", order(false)],
    [`${word} in steps`, "", order(true)],
  ]);
}

// Purges

const WAYS = {
  url: "One object's URL, signed or plain, or its path",
  prefix: "All URLs below this one, which ends at a slash",
  tag: "The tag that objects carry in Cache-Tag or Surrogate-Key",
  video: "The video's id",
};

function nameWay() {
  $("purge-label").textContent = WAYS[$("purge-way").value];
}

async function purging(event) {
  event.preventDefault();
  const [way, value, soft] = [$("purge-way").value, $("purge-what").value.trim(), $("purge-soft").checked];
  if (!value) return complain($("purge-shown"), new Error("Say what to purge first."));
  const what = soft ? "Caches keep it, and ask for it anew at its next use." : "Every cache drops it, and asks for it anew at its next use.";
  await confirmed({
    title: `Purge ${way} ${value}?`,
    parts: [made("p", what)],
    go: "Purge",
    act: async () => {
      const done = await ask("purge", { [way]: value, soft });
      $("purge-shown").replaceChildren(...purgeParts(done));
      $("purge-what").value = "";
    },
  });
}

function purgeParts(done) {
  const slowest = Math.max(0, ...done.acknowledged.map((one) => one.took_ms));
  const all = done.acknowledged.length + done.missing.length;
  const said = made("p", `Purge ${done.sequence}: ${done.acknowledged.length} of ${counted(all, "cache")} acknowledged, the last after ${Math.round(slowest)} ms.`);
  if (!done.missing.length) return [said];
  const alert = made("div", undefined, "alert notice");
  const list = made("ul");
  list.append(...done.missing.map((one) => made("li", `${one.node}: ${one.reason}`)));
  alert.append(made("h3", "Missing; they carry it out when they reach control again, before they serve after a start"), list);
  return [said, alert];
}

// Rollouts

/** Draws the rollout under way or the last one; null hides it. */
export function drawRollout(state) {
  $("rollout").hidden = !state;
  if (!state) return;
  const mood = { done: "good", "rolled back": "bad" }[state.status] ?? "";
  $("rollout-what").textContent = state.what;
  $("rollout-status").textContent = state.active ? `step ${Math.min(state.step + 1, state.steps.length)} of ${state.steps.length}, ${state.status}` : state.status;
  $("rollout-status").className = `tag ${mood}`;
  $("rollout-bar").max = Math.max(1, state.steps.length);
  $("rollout-bar").value = state.status === "done" ? state.steps.length : state.step;
  $("rollout-stop").hidden = !state.active || document.body.classList.contains("viewer");
  const lines = state.lines.slice(-8).map((line) => line.text);
  $("rollout-lines").replaceChildren(...lines.map((line) => made("li", line)));
}

export async function stopRollout() {
  await confirmed({
    title: "Stop the rollout?",
    parts: [made("p", "Everything goes back to what was in force before it began.")],
    go: "Stop and go back",
    act: () => ask("rollback", {}),
  });
}

// Dialogs

function forceOf(plan) {
  if (!plan.refusals.length || plan.impossible.length) return [];
  const label = made("label", undefined, "check");
  const box = made("input");
  box.type = "checkbox";
  box.dataset.is = "force";
  label.append(box, " Do it although it would not hold");
  return [label];
}

const forced = (dialog) => dialog.querySelector('[data-is="force"]')?.checked ?? false;

async function confirmed({ title, parts, go, act }) {
  open(title, parts).fill(parts, [[go, "main", act]]);
}

/** A dialog that keeps the keyboard, closes by Escape, and gives the focus back. */
function open(title, parts) {
  const dialog = $("confirm");
  const body = $("confirm-body");
  $("confirm-title").textContent = title;
  body.replaceChildren(...parts);
  const cancel = button("Cancel", "", () => dialog.close());
  $("confirm-buttons").replaceChildren(cancel);
  if (!dialog.open) dialog.showModal();
  return {
    body,
    isOpen: () => dialog.open && $("confirm-title").textContent === title,
    fill(newParts, choices) {
      body.replaceChildren(...newParts);
      const buttons = choices.map(([text, className, act]) => button(text, className, () => carryOut(dialog, act)));
      $("confirm-buttons").replaceChildren(...buttons, cancel);
      cancel.focus();
    },
  };
}

async function carryOut(dialog, act) {
  const buttons = [...$("confirm-buttons").children];
  buttons.forEach((one) => (one.disabled = true));
  try {
    await act(dialog);
    dialog.close();
    afterOrder();
  } catch (error) {
    complain($("confirm-body"), error, true);
    buttons.forEach((one) => (one.disabled = false));
    buttons.at(-1).focus();
  }
}

async function doing(control, place, act) {
  control.disabled = true;
  place.setAttribute("aria-busy", "true");
  try {
    await act();
  } catch (error) {
    complain(place, error);
  } finally {
    control.disabled = false;
    place.removeAttribute("aria-busy");
  }
}

function complain(place, error, keep = false) {
  const alert = made("div", undefined, "alert");
  alert.setAttribute("role", "alert");
  const lines = error.problem?.problems?.map((one) => one.text) ?? [reason(error)];
  const list = made("ul");
  list.append(...lines.map((line) => made("li", line)));
  alert.append(list);
  place.querySelectorAll('[role="alert"]').forEach((old) => old.remove());
  if (keep) place.prepend(alert);
  else place.replaceChildren(alert);
}

export const reason = (error) =>
  error.name === "TimeoutError" || error instanceof TypeError ? "Control does not answer; nothing is known to have changed. Try again." : error.message;
