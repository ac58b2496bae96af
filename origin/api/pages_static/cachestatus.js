// Cache-Status (RFC 9211): what each tier did for one response. Pure.

/** The members of a Cache-Status header, nearest the origin first: [{name, params: {hit: true, fwd: "uri-miss", …}}]. */
export function parseCacheStatus(header) {
  if (!header) return [];
  return splitOutsideQuotes(header, ",").map((member) => {
    const [name, ...rest] = splitOutsideQuotes(member, ";");
    const params = {};
    for (const parameter of rest) {
      const at = parameter.indexOf("=");
      if (at < 0) params[parameter] = true;
      else params[parameter.slice(0, at)] = unquoted(parameter.slice(at + 1));
    }
    return { name: unquoted(name), params };
  });
}

/**
 * What one tier did, in a word: "hit" (from its store), "joined" (waited on a fill that another request had begun),
 * "miss" (asked its parent), "idle" (was not asked).
 */
export function outcomeOf(member) {
  if (!member) return "idle";
  if (member.params.collapsed) return "joined";
  if (member.params.hit) return "hit";
  return "miss";
}

/**
 * One response by tier: {edge: {name, outcome}, shield: {name, outcome}, origin: {name, outcome}}.
 * A response out of the edge's store may still carry what the shield said when it was stored; the shield was not asked now.
 */
export function tiersOf(header) {
  const members = parseCacheStatus(header);
  const edge = members.at(-1) ?? null;
  const shield = members.length > 1 ? members.at(-2) : null;
  const edgeOutcome = outcomeOf(edge);
  const shieldOutcome = edgeOutcome === "hit" ? "idle" : outcomeOf(shield);
  return {
    edge: { name: edge?.name ?? "", outcome: edgeOutcome },
    shield: { name: shieldOutcome === "idle" ? "" : shield.name, outcome: shieldOutcome },
    origin: { name: "origin", outcome: shieldOutcome === "miss" ? "asked" : "idle" },
  };
}

function splitOutsideQuotes(text, separator) {
  const parts = [];
  let part = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (quoted && char === "\\") {
      part += char + (text[at + 1] ?? "");
      at += 1;
    } else if (char === separator && !quoted) {
      parts.push(part.trim());
      part = "";
    } else {
      if (char === '"') quoted = !quoted;
      part += char;
    }
  }
  parts.push(part.trim());
  return parts.filter((item) => item !== "");
}

function unquoted(text) {
  const trimmed = text.trim();
  if (!trimmed.startsWith('"')) return trimmed;
  return trimmed.slice(1, -1).replace(/\\(["\\])/g, "$1");
}
