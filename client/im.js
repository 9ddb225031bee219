// The imcore client for browsers: one push connection that stays up. No dependency, no DOM beyond events.
//
// The socket only ever receives. Every attempt asks your web API for a fresh address, because its token
// works once and for ten seconds. Types are in im.d.ts, usage in README.md.

/** @typedef {import("./im.d.ts").ImState} ImState */
/** @typedef {import("./im.d.ts").ImClientOptions} ImClientOptions */
/** @typedef {import("./im.d.ts").ImErrorKind} ImErrorKind */

/** The server's "do not reconnect". */
const KICKED = 4001;
/** The node stops; another process, or the same one restarted, will be there in a moment. */
const NODE_STOPS = [1001, 1012];
/** The client read too slowly, or the node is overloaded: come back, but not at once. */
const LATER = 1013;
/** Something this page sends is wrong. It would be wrong again, so coming back would only loop. */
const FATAL = new Map([
  [1002, "the server could not read a frame of this client"],
  [1007, "this client sent text that is not UTF-8"],
  [1008, "this client sent too much; the socket is for receiving"],
  [1009, "this client sent a message that is too big"],
]);
/** Steps of the back-off at which the return begins after such a close: 1 to 2 s, and 4 to 8 s. */
const STEP_NODE_STOPS = 2;
const STEP_LATER = 4;
/** How often an open connection is looked at. */
const WATCH_MS = 5_000;
/** A watch this late means that the machine slept. Hidden pages are called once a minute, which is not sleep. */
const SLEPT_MS = 90_000;
/** A page that becomes visible checks a link that has been silent this long. */
const STALE_MS = 30_000;

const DEFAULTS = {
  firstPause: 500,
  longestPause: 15_000,
  stableAfter: 5_000,
  connectWithin: 10_000,
  checkWithin: 10_000,
};

/** A failure that the client deals with by itself, told for logs and for the curious. */
export class ImError extends Error {
  /**
   * @param {ImErrorKind} kind
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(kind, message, cause) {
    super(message, { cause });
    this.name = "ImError";
    this.kind = kind;
  }
}

/**
 * Reads what a socket receives: the JSON that was sent, or the bare text if it is none.
 * @param {string} text
 * @returns {unknown}
 */
export function decodeJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** One user's push connection. */
export class ImClient extends EventTarget {
  /** @type {ImState} */
  state = "closed";
  /** While waiting or offline: when the next attempt starts, as `Date.now()` counts. */
  retryAt = 0;
  /**
   * Rooms to join again after each reconnect. Yours to edit.
   * @type {Set<string>}
   */
  rooms;

  /** @type {ImClientOptions & typeof DEFAULTS} */
  #options;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watcher;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #rejoinTimer;
  /** Ended when what it belongs to is let go of: an attempt, or a connection. */
  #scope = new AbortController();
  #attempt = 0;
  #openedAt = 0;
  #heardAt = 0;
  #watchedAt = 0;
  /** Why the link may be dead, until that is known. */
  #doubt = "";
  /**
   * Told about every message while a check is under way.
   * @type {(() => void) | null}
   */
  #onHeard = null;
  #hasBeenOpen = false;
  /** @type {[EventTarget, string, (event: Event) => void][]} */
  #hooks = [];

  /** @param {ImClientOptions} options */
  constructor(options) {
    super();
    if (typeof options?.getUrl !== "function") throw new TypeError("ImClient: getUrl must be a function");
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, ...given, getUrl: options.getUrl };
    this.rooms = options.rooms ?? new Set();
  }

  /** Whether messages are expected to arrive now. */
  get isOpen() {
    return this.state === "open";
  }

  /** Connects, and stays connected until `close()`, a kick or a fatal close code. */
  connect() {
    this.#abandon();
    this.#attempt = 0;
    this.#hasBeenOpen = false;
    this.#hook();
    this.#connect();
  }

  /** Disconnects for good; `connect()` starts again. Remembers the rooms. */
  close() {
    this.#end("closed");
  }

  /** Ends the wait for the next attempt, if there is one. */
  retryNow() {
    const waits = this.state === "waiting" || (this.state === "offline" && !this.#socket);
    if (waits) this.#connect();
  }

  // --- One attempt --------------------------------------------------------------------------------

  async #connect() {
    this.#abandon();
    const { signal } = this.#scope;
    this.#enter("connecting");
    if (signal.aborted) return;
    this.#timer = setTimeout(() => this.#fail("timeout", "no connection in time"), this.#options.connectWithin);
    let url;
    try {
      url = await this.#options.getUrl({ signal, attempt: this.#attempt });
    } catch (error) {
      if (!signal.aborted) this.#fail("url", "getUrl failed", error);
      return;
    }
    if (signal.aborted) return;
    if (url === null || url === undefined || url === "") {
      this.#end("failed", new ImError("url", "getUrl gave no address: it wants no connection any more"));
    } else {
      this.#open(url, signal);
    }
  }

  /**
   * @param {string | URL} url
   * @param {AbortSignal} signal
   */
  #open(url, signal) {
    /** @type {WebSocket} */
    let socket;
    try {
      const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
      socket = new Socket(String(url));
    } catch (error) {
      this.#fail("url", "this address cannot be connected to", error);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      if (!signal.aborted) this.#opened();
    };
    socket.onmessage = (event) => {
      if (!signal.aborted) this.#receive(event.data);
    };
    socket.onclose = (event) => {
      if (!signal.aborted) this.#closed(event);
    };
  }

  #opened() {
    clearTimeout(this.#timer);
    const now = Date.now();
    this.#openedAt = now;
    this.#heardAt = now;
    this.#watchedAt = now;
    this.#watcher = setInterval(() => this.#watch(), WATCH_MS);
    const isReconnect = this.#hasBeenOpen;
    this.#hasBeenOpen = true;
    const { signal } = this.#scope;
    this.#enter("open");
    if (signal.aborted) return;
    this.#emit("open", { isReconnect });
    if (!signal.aborted && this.rooms.size) this.#rejoin();
  }

  /** @param {CloseEvent} event */
  #closed({ code, reason, wasClean }) {
    this.#judge();
    const fault = FATAL.get(code);
    const willReconnect = code !== KICKED && fault === undefined;
    const { signal } = this.#scope;
    this.#emit("close", { code, reason, wasClean, willReconnect });
    // A listener may have closed or connected anew.
    if (signal.aborted) return;
    if (code === KICKED) {
      this.#end("kicked");
      this.#emit("kicked", { reason });
    } else if (fault !== undefined) {
      this.#end("failed", new ImError("protocol", `close code ${code}: ${fault}`));
    } else {
      if (NODE_STOPS.includes(code)) this.#attempt = Math.max(this.#attempt, STEP_NODE_STOPS);
      if (code === LATER) this.#attempt = Math.max(this.#attempt, STEP_LATER);
      this.#wait();
    }
  }

  /**
   * An attempt or a connection is given up from our side.
   * @param {ImErrorKind} kind
   * @param {string} message
   * @param {unknown} [cause]
   */
  #fail(kind, message, cause) {
    this.#judge();
    this.#wait();
    this.#emit("error", new ImError(kind, message, cause));
  }

  /** A connection that lasted was a good one: the pauses start small again. */
  #judge() {
    if (this.#openedAt && Date.now() - this.#openedAt >= this.#options.stableAfter) this.#attempt = 0;
  }

  #wait() {
    this.#abandon();
    const { firstPause, longestPause } = this.#options;
    const isOffline = !isOnline();
    const step = isOffline ? longestPause : Math.min(longestPause, firstPause * 2 ** this.#attempt);
    const pause = jittered(step);
    this.#attempt += 1;
    this.retryAt = Date.now() + pause;
    // Also while offline: browsers are sometimes wrong about it, for example on a network of their own.
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#enter(isOffline ? "offline" : "waiting");
  }

  // --- Messages and rooms ---------------------------------------------------------------------------

  /** @param {unknown} data */
  #receive(data) {
    this.#alive();
    if (typeof data !== "string") return;
    const { signal } = this.#scope;
    const decode = this.#options.decode ?? decodeJson;
    let type = "message";
    let value;
    try {
      value = decode(data);
      if (isReceipt(value)) {
        type = "receipt";
        value = { ...value, content: typeof value.content === "string" ? decode(value.content) : value.content };
      }
    } catch (error) {
      this.#emit("error", new ImError("decode", "a message could not be decoded", error));
      return;
    }
    if (!signal.aborted) this.#emit(type, value);
  }

  /** The server forgets the rooms of a client whose last connection ends; this has them joined again. */
  async #rejoin(attempt = 0) {
    const { rejoin, firstPause, longestPause } = this.#options;
    const rooms = [...this.rooms];
    if (!rejoin || rooms.length === 0) return;
    const { signal } = this.#scope;
    try {
      await rejoin(rooms, { signal });
      if (!signal.aborted) this.#emit("rejoined", { rooms });
    } catch (error) {
      if (signal.aborted) return;
      const pause = jittered(Math.min(longestPause, firstPause * 2 ** attempt));
      this.#rejoinTimer = setTimeout(() => this.#rejoin(attempt + 1), pause);
      this.#emit("error", new ImError("rejoin", "the rooms could not be joined; trying again", error));
    }
  }

  // --- Is the link alive? ---------------------------------------------------------------------------

  #alive() {
    this.#heardAt = Date.now();
    this.#doubt = "";
    this.#onHeard?.();
    // If the browser says offline, it was wrong.
    if (this.state === "offline") this.#enter("open");
  }

  #watch() {
    const now = Date.now();
    const late = now - this.#watchedAt - WATCH_MS;
    this.#watchedAt = now;
    const { silence } = this.#options;
    if (late >= SLEPT_MS) this.#suspect("the machine slept");
    else if (silence && now - this.#heardAt >= silence) this.#suspect("silence");
    else if (this.#doubt) this.#suspect(this.#doubt);
  }

  /**
   * Has an open link checked; takes it for dead where there is no check.
   * @param {string} why
   */
  async #suspect(why) {
    // Without a network nothing can be checked or replaced.
    if (!this.#openedAt || this.#onHeard || !isOnline()) return;
    this.#doubt = why;
    const { check } = this.#options;
    const { signal } = this.#scope;
    const verdict = check ? await this.#verdict(check, signal) : "dead";
    if (signal.aborted) return;
    if (verdict === "alive") this.#alive();
    else if (verdict === "dead") this.#fail("dead", `the link is taken for dead: ${why}`);
    // Otherwise the web API did not answer. That says nothing about this link, and a new one needs it too: the
    // watch asks again.
  }

  /**
   * @param {NonNullable<ImClientOptions["check"]>} check
   * @param {AbortSignal} signal
   * @returns {Promise<"alive" | "dead" | "unknown">}
   */
  async #verdict(check, signal) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    try {
      return await new Promise((resolve) => {
        timer = setTimeout(() => resolve("dead"), this.#options.checkWithin);
        this.#onHeard = () => resolve("alive");
        signal.addEventListener("abort", () => resolve("unknown"));
        Promise.resolve()
          .then(() => check({ signal }))
          .then(
            (isAlive) => {
              // Anything else: the check had something sent to us, and its arrival is the answer.
              if (typeof isAlive === "boolean") resolve(isAlive ? "alive" : "dead");
            },
            () => resolve("unknown"),
          );
      });
    } finally {
      clearTimeout(timer);
      if (!signal.aborted) this.#onHeard = null;
    }
  }

  // --- What the browser tells -----------------------------------------------------------------------

  #hook() {
    this.#unhook();
    const page = globalThis.document;
    this.#on(globalThis, "online", () => this.#networkIsBack());
    this.#on(globalThis, "offline", () => this.#networkIsGone());
    this.#on(globalThis, "pageshow", (event) => {
      if (/** @type {PageTransitionEvent} */ (event).persisted) this.#pageIsRestored();
    });
    this.#on(page, "visibilitychange", () => {
      if (page.visibilityState === "visible") this.#pageIsVisible();
    });
  }

  #unhook() {
    for (const [target, type, listener] of this.#hooks) target.removeEventListener(type, listener);
    this.#hooks = [];
  }

  /**
   * @param {EventTarget | undefined} target
   * @param {string} type
   * @param {(event: Event) => void} listener
   */
  #on(target, type, listener) {
    // Outside of browsers there are no such events.
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, listener);
    this.#hooks.push([target, type, listener]);
  }

  /** The connection may outlive a short loss, so it is kept until it proves dead. */
  #networkIsGone() {
    if (this.state === "open") this.#enter("offline");
    else if (this.state === "waiting") this.#wait();
  }

  #networkIsBack() {
    if (this.#openedAt) {
      this.#suspect("the network was away");
    } else {
      this.#attempt = 0;
      this.retryNow();
    }
  }

  /** Browsers cut the sockets of pages that they keep for the back button, and need not say so. */
  #pageIsRestored() {
    this.retryNow();
    this.#suspect("the page was put away");
  }

  #pageIsVisible() {
    this.retryNow();
    const isStale = Date.now() - this.#heardAt >= STALE_MS;
    if (this.#options.check && isStale) this.#suspect("the page was hidden");
  }

  // --- State ----------------------------------------------------------------------------------------

  /**
   * The end, until `connect()` is called again.
   * @param {"closed" | "kicked" | "failed"} state
   * @param {ImError} [error]
   */
  #end(state, error) {
    this.#abandon();
    this.#unhook();
    this.#enter(state);
    if (error) this.#emit("error", error);
  }

  /** Lets go of the present attempt or connection. */
  #abandon() {
    this.#scope.abort();
    this.#scope = new AbortController();
    clearTimeout(this.#timer);
    clearTimeout(this.#rejoinTimer);
    clearInterval(this.#watcher);
    this.#openedAt = 0;
    this.#doubt = "";
    this.#onHeard = null;
    this.retryAt = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** @param {ImState} state */
  #enter(state) {
    const previous = this.state;
    this.state = state;
    if (state !== previous || this.retryAt) this.#emit("state", { state, previous, retryAt: this.retryAt });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Whether there may be a network, as far as the browser knows. */
function isOnline() {
  return globalThis.navigator?.onLine !== false;
}

/**
 * A pause from the upper half of a step, so that the clients of a restarted server do not return in one wave.
 * @param {number} step
 */
function jittered(step) {
  return step / 2 + (Math.random() * step) / 2;
}

/**
 * @param {unknown} value
 * @returns {value is { receipt: string, content: unknown }}
 */
function isReceipt(value) {
  return typeof value === "object" && value !== null && "receipt" in value && typeof value.receipt === "string"
    && "content" in value;
}
