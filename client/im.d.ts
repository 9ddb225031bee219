/** Where a connection stands. */
export type ImState =
  /** Not started, or ended by `close()`. */
  | "closed"
  /** Asking for an address, or opening the socket. */
  | "connecting"
  /** Messages arrive. */
  | "open"
  /** The browser has no network. An open socket is kept until it is known to be dead. */
  | "offline"
  /** Between two attempts; `retryAt` says until when. */
  | "waiting"
  /** Forced offline by the service (4001). Only `connect()` leads on. */
  | "kicked"
  /** It makes no sense to go on; the `error` event says why. Only `connect()` leads on. */
  | "failed";

export type ImErrorKind =
  /** `getUrl` failed or gave nothing, or its address is none. */
  | "url"
  /** No connection within `connectWithin`. */
  | "timeout"
  /** The link did not pass its check. */
  | "dead"
  /** A close code that says that this page does something wrong. */
  | "protocol"
  /** `rejoin` failed; it is called again. */
  | "rejoin"
  /** `decode` failed on a message, which was dropped. */
  | "decode";

export class ImError extends Error {
  readonly kind: ImErrorKind;
  constructor(kind: ImErrorKind, message: string, cause?: unknown);
}

export interface ImClientOptions {
  /**
   * Asks your web API for an address with a fresh token. Called for every attempt. Pass `signal` to `fetch`. An
   * exception leads to another attempt later; `null` ends it all, for example because nobody is signed in.
   */
  getUrl: (context: { signal: AbortSignal; attempt: number }) => UrlAnswer | Promise<UrlAnswer>;
  /** Joins these rooms through your web API. Called after each connect while there are rooms; again if it fails. */
  rejoin?: (rooms: string[], context: { signal: AbortSignal }) => unknown;
  /** The set to keep the rooms in, if you have one already. Default: an empty one. */
  rooms?: Set<string>;
  /**
   * Asks your web API whether this connection lives: true or false; or, best, it has something sent to this client
   * and returns nothing, and the arrival of any message within `checkWithin` is the answer. An exception means
   * "cannot tell": asked again later.
   */
  check?: (context: { signal: AbortSignal }) => boolean | void | Promise<boolean | void>;
  /** Milliseconds without a message after which the link is checked, or replaced if there is no check. Default 0: never. */
  silence?: number;
  /** Milliseconds that a check may take. Default 10,000. */
  checkWithin?: number;
  /** Milliseconds for address and handshake together. Default 10,000. */
  connectWithin?: number;
  /** Milliseconds of the first pause, doubled with each failure. Default 500. Half of each pause is drawn. */
  firstPause?: number;
  /** Milliseconds of the longest pause. Default 15,000. */
  longestPause?: number;
  /** Milliseconds after which a connection counts as good, so that the pauses start small again. Default 5,000. */
  stableAfter?: number;
  /** Turns the text of a message into its value. Default: JSON, or the bare text if it is none. */
  decode?: (text: string) => unknown;
  /** The WebSocket class, where there is none by that name or another one is wanted. */
  WebSocket?: new (url: string) => WebSocket;
}

export type UrlAnswer = string | URL | null | undefined;

/** What became of a message that asked for a receipt. */
export interface ImReceipt {
  /** The message, decoded. */
  content: unknown;
  /** In words, as the original server says it. */
  receipt: string;
  /** Whom the message was for. */
  to?: number | string;
  status?: "sent" | "offline" | string;
}

export interface ImEventMap {
  state: CustomEvent<{ state: ImState; previous: ImState; retryAt: number }>;
  /** Before the rooms have been joined again: `rejoined` follows. */
  open: CustomEvent<{ isReconnect: boolean }>;
  rejoined: CustomEvent<{ rooms: string[] }>;
  message: CustomEvent<any>;
  receipt: CustomEvent<ImReceipt>;
  /** The server or the network closed the connection, or refused it (1006). */
  close: CustomEvent<{ code: number; reason: string; wasClean: boolean; willReconnect: boolean }>;
  kicked: CustomEvent<{ reason: string }>;
  error: CustomEvent<ImError>;
}

export class ImClient extends EventTarget {
  constructor(options: ImClientOptions);
  readonly state: ImState;
  /** While waiting or offline without a socket: when the next attempt starts, as `Date.now()` counts; otherwise 0. */
  readonly retryAt: number;
  /** Whether messages are expected to arrive now. */
  readonly isOpen: boolean;
  /** Rooms to join again after each reconnect. Yours to edit. */
  readonly rooms: Set<string>;
  /** Connects, and stays connected until `close()`, a kick or a fatal close code. */
  connect(): void;
  /** Disconnects for good; `connect()` starts again. Remembers the rooms. */
  close(): void;
  /** Ends the wait for the next attempt, if there is one. */
  retryNow(): void;

  addEventListener<K extends keyof ImEventMap>(
    type: K,
    listener: (this: ImClient, event: ImEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof ImEventMap>(
    type: K,
    listener: (this: ImClient, event: ImEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** Reads what a socket receives: the JSON that was sent, or the bare text if it is none. */
export function decodeJson(text: string): unknown;
