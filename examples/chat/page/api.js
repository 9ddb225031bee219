// Requests to the web API, and the shape of what it pushes. Knows no DOM.

const REQUEST_LIMIT_MS = 10_000;

/** A request that failed: `status` is 0 if there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Calls one route of the web API and returns its answer; `signal` ends the wait for it. */
export async function call(route, fields = {}, signal = undefined) {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined) body.append(name, value);
  }
  let response;
  let answer = null;
  const limit = AbortSignal.timeout(REQUEST_LIMIT_MS);
  try {
    response = await fetch(`ws/${route}`, { method: "POST", body, signal: signal ? AbortSignal.any([signal, limit]) : limit });
    answer = await response.json();
  } catch {
    if (!response) throw new ApiError(0, "");
  }
  if (!response.ok || answer?.code !== 0) {
    throw new ApiError(response.status, answer?.message ?? `HTTP ${response.status}`);
  }
  return answer;
}

/** Reads what a socket receives: JSON, which in the original's convention may be a string of JSON. */
export function decode(text) {
  const value = JSON.parse(text);
  return typeof value === "string" ? JSON.parse(value) : value;
}
