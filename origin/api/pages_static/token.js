// The creator's API token, kept by this browser. A link may bring it in its fragment, which never reaches a server.

const KEY = "headwater-token";

/** Takes `#token=hw_…` out of the address, so that it is in no bookmark and no screenshot. */
export function takeFromLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return false;
  keep(given);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

export function kept() {
  return localStorage.getItem(KEY) ?? "";
}

export function keep(token) {
  if (token.trim()) localStorage.setItem(KEY, token.trim());
  else localStorage.removeItem(KEY);
}

/** Header fields for a request to the API. A value that no header could carry is as good as none. */
export function authorization() {
  const token = kept();
  return /^[\x21-\x7e]+$/.test(token) ? { Authorization: `Bearer ${token}` } : {};
}
