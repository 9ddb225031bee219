// The imcore client: requests to the web API, and one push connection that stays up. Knows no DOM.
//
// The socket only ever receives. Each attempt to connect asks the web API for a fresh address, because
// its token works once and for ten seconds.

/** The server's "do not reconnect". */
const KICKED = 4001;
const REQUEST_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** A connection that lasted this long was a good one: the pauses start small again. */
const STABLE_MS = 5_000;

/** A request that failed: `status` is 0 if there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Calls one route of the web API and returns its answer. */
export async function call(route, fields = {}) {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined) body.append(name, value);
  }
  let response;
  let answer = null;
  try {
    response = await fetch(`ws/${route}`, { method: "POST", body, signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
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
function decode(text) {
  const value = JSON.parse(text);
  return typeof value === "string" ? JSON.parse(value) : value;
}

/**
 * One user's push connection.
 *
 * Events, each with its value in `detail`: `state` (also in the property `state`: idle, connecting,
 * online, waiting, kicked), `identity` (the id that the web API gave), `message`, `receipt`
 * ({message, to, status}).
 */
export class Connection extends EventTarget {
  state = "idle";
  /** While waiting: when the next attempt starts, as `Date.now()` counts. */
  retryAt = 0;
  #id = null;
  #nick = null;
  #socket = null;
  #timer = 0;
  #attempt = 0;
  #openedAt = 0;
  /** Counts attempts; whatever belongs to an older one is ignored. */
  #turn = 0;

  /** Connects as this user, instead of as whoever it was before. */
  start({ id, nick }) {
    this.#id = id;
    this.#nick = nick;
    this.#attempt = 0;
    this.#connect();
  }

  /** Disconnects for good. */
  stop() {
    this.#abandon();
    this.#enter("idle");
  }

  /** Ends the wait for the next attempt, if there is one. */
  retryNow() {
    if (this.state === "waiting") this.#connect();
  }

  async #connect() {
    this.#abandon();
    const turn = this.#turn;
    this.#enter("connecting");
    let ticket;
    try {
      ticket = await call("pre-connect", { websocketId: this.#id, nick: this.#nick });
    } catch (error) {
      if (turn !== this.#turn) return;
      // An id that the web API does not take will never do; it gives a new one.
      if (error.status === 400) this.#id = null;
      this.#wait();
      return;
    }
    if (turn !== this.#turn) return;
    this.#id = String(ticket.websocketId);
    this.#emit("identity", this.#id);
    this.#open(turn, ticket.server);
  }

  #open(turn, address) {
    let socket;
    try {
      socket = new WebSocket(address);
    } catch {
      this.#wait();
      return;
    }
    this.#socket = socket;
    this.#timer = setTimeout(() => socket.close(), CONNECT_LIMIT_MS);
    socket.onopen = () => {
      if (turn !== this.#turn) return;
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#enter("online");
    };
    socket.onmessage = (event) => {
      if (turn === this.#turn) this.#receive(event.data);
    };
    socket.onclose = (event) => {
      if (turn !== this.#turn) return;
      if (this.#openedAt && Date.now() - this.#openedAt > STABLE_MS) this.#attempt = 0;
      if (event.code === KICKED) {
        this.#abandon();
        this.#enter("kicked");
      } else {
        this.#wait();
      }
    };
  }

  #receive(text) {
    try {
      const value = decode(text);
      if (typeof value !== "object" || value === null) return;
      if (typeof value.receipt === "string") {
        this.#emit("receipt", { message: decode(value.content), to: String(value.to), status: value.status });
      } else {
        this.#emit("message", value);
      }
    } catch {
      // Other programs may push what is not meant for this page.
    }
  }

  #wait() {
    this.#abandon();
    const step = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#attempt);
    // The upper half is drawn, so that the clients of a restarted server do not return in one wave.
    const pause = step / 2 + (Math.random() * step) / 2;
    this.#attempt += 1;
    this.retryAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#enter("waiting");
  }

  /** Lets go of the present attempt or connection. */
  #abandon() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#openedAt = 0;
    this.#socket?.close();
    this.#socket = null;
  }

  #enter(state) {
    this.state = state;
    this.#emit("state", state);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
