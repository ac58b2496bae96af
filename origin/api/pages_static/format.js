// Numbers and states in words. Pure: what is shown depends on the arguments alone.

/** 75.2 → "1:15", 3671 → "1:01:11". */
export function clock(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "0:00";
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** 21_500 s → "5 h 58 min"; what is left of a grant, say. */
export function span(seconds) {
  if (seconds <= 0) return "now";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** How long ago, both in Unix seconds. */
export function ago(then, now) {
  const seconds = Math.max(0, now - then);
  if (seconds < 45) return "just now";
  const steps = [["minute", 60], ["hour", 3600], ["day", 86400], ["week", 604800], ["month", 2629800], ["year", 31557600]];
  const [unit, length] = steps.findLast(([, size]) => seconds >= size * 0.99) ?? steps[0];
  const count = Math.max(1, Math.round(seconds / length));
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}

/** 2_140_000 → "2.1 Mbit/s". */
export function rate(bitsPerSecond) {
  if (!Number.isFinite(bitsPerSecond) || bitsPerSecond <= 0) return "–";
  if (bitsPerSecond >= 1e9) return `${(bitsPerSecond / 1e9).toFixed(1)} Gbit/s`;
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

/** 4_139_823 → "3.9 MiB". */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  let value = count;
  while (value >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${step ? value.toFixed(1) : value} ${units[step]}`;
}

export function percent(share) {
  return `${Math.floor(Math.min(1, Math.max(0, share ?? 0)) * 100)} %`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** "30000/1001" → "29.97 fps". */
export function frameRate(fraction) {
  const [over, under = 1] = String(fraction ?? "").split("/").map(Number);
  const value = over / under;
  return Number.isFinite(value) && value > 0 ? `${Number(value.toFixed(2))} fps` : null;
}

/** What a viewer should know of a video's state: {tone: "busy" | "good" | "bad", text, progress: 0..1 | null}. */
export function stateInWords(video) {
  const pictures = (video.renditions ?? []).filter((rendition) => rendition.kind === "video");
  const done = pictures.filter((rendition) => rendition.state === "ready");
  switch (video.status) {
    case "uploading":
      return { tone: "busy", text: "Waiting for the rest of the upload", progress: null };
    case "processing":
      return { tone: "busy", text: `Processing, ${percent(video.progress)}`, progress: video.progress ?? 0 };
    case "failed":
      return { tone: "bad", text: `Failed: ${video.failure?.detail || video.failure?.kind || "no reason was recorded"}`, progress: null };
    default:
      if (done.length < pictures.length) {
        const text = `Playable, ${done.length} of ${plural(pictures.length, "rung")} ready`;
        return { tone: "busy", text, progress: video.progress ?? null };
      }
      return { tone: "good", text: pictures.length ? plural(pictures.length, "rung") : "Ready", progress: null };
  }
}

/** Whether the state may still change by itself. */
export function isUnfinished(video) {
  if (video.status === "uploading" || video.status === "processing") return true;
  return video.status === "ready" && (video.renditions ?? []).some((rendition) => rendition.state !== "ready");
}
