// Needs no DOM: where there is none (Node), its few types are replaced by what is used of them.

type Signal = typeof globalThis extends { AbortSignal: { prototype: infer T } } ? T : { readonly aborted: boolean };
type BaseEvent = typeof globalThis extends { Event: { prototype: infer T } } ? T : { readonly type: string };
type Url = typeof globalThis extends { URL: { prototype: infer T } } ? T : { readonly href: string };

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
  /** Between two attempts; `retryAt` says until when. It is 0 while the page is put away (back-forward cache, frozen). */
  | "waiting"
  /** Forced offline by the service (4001). Only `connect()` leads on. */
  | "kicked"
  /** It makes no sense to go on; the `error` event says why. Only `connect()` leads on. */
  | "failed";

export type ImErrorKind =
  /** There is no address, or it is none, or the page may not connect to it. */
  | "url"
  /** No address, or no connection, within its time. */
  | "timeout"
  /** The link did not pass its check. */
  | "dead"
  /** A close code that says that this page does something wrong, or has too many connections. */
  | "protocol"
  /** `rejoin` failed; it is called again. */
  | "rejoin"
  /** `leave` failed; it is called again. */
  | "leave"
  /** A message was binary, or `decode` failed on it. It was dropped. */
  | "decode"
  /** `onMessage` failed, or has not returned for 30 s; or a position could not be loaded or saved. */
  | "handler"
  /** `onResync` failed, and is called again; or has not returned for 30 s. */
  | "resync";

export class ImError extends Error {
  constructor(kind: ImErrorKind, message: string, cause?: unknown);
  readonly kind: ImErrorKind;
  /** What was thrown by a callback. */
  readonly cause?: unknown;
  /** Milliseconds that the web API asked to be left alone for. */
  readonly retryAfter?: number;
}

/** What is used of a WebSocket. The browser's, Node's and the package ws's are such. */
export interface ImSocket {
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  close(code?: number, reason?: string): void;
  /** Not there, or `protocol` never `imcore.1`: the connection cannot be resumed. */
  send?(text: string): void;
  readonly protocol?: string;
}

export type ImSocketClass = new (url: string, protocols?: any) => ImSocket;

/**
 * Where a client keeps its position: an opaque text. The last that was saved is loaded by the next page or process of the same user,
 * which then gets what came since.
 */
export interface ImPosition {
  /** Called once per `connect()`. What fails, or takes more than 3 s, is told (`handler`), and the client begins anew. */
  load(): string | null | undefined | Promise<string | null | undefined>;
  /**
   * Called after each handled message, one call at a time, with the newest position; and with `""` when there is nothing to go on from
   * any more: signed out, kicked, somebody else goes on from there. Only when it has returned, and what it returned is fulfilled, is the
   * node told. What fails, or takes more than 10 s, is told (`handler`) and passed over: the next page gets some messages twice, or
   * loads its state.
   */
  save(position: string): unknown;
}

/**
 * A place in `sessionStorage`, by user, for pages that are reloaded. A duplicated tab does not go on from it.
 * Where there is no `sessionStorage` (Node, workers) it throws.
 */
export function sessionPosition(user: string): ImPosition;

/** What `onMessage` is told beside the message. */
export interface ImMessageContext {
  /** What `position.load()` is to give back, if everything up to this message is stored together with it. */
  position: string;
}

/** Why the application is to load its state. */
export interface ImResync {
  /**
   * Nothing at the first connection. `expired`: away for too long. `epoch`: something may have been lost. `ahead`: the position is of
   * another time. `too_much`: more came than is kept, or than was handled.
   */
  why: "expired" | "epoch" | "ahead" | "too_much" | undefined;
  /** The position from which on messages are handed on once this is done. */
  position: string;
  /** Aborted when this load is of no use any more: another one takes its place, or the client was closed. Pass it to `fetch`. */
  signal: Signal;
}

/** What all callbacks get. Pass `signal` to `fetch`: a call that is given up must not go on in the background. */
export interface ImContext {
  signal: Signal;
}

export interface ImClientOptions {
  /**
   * Where your web API gives out addresses; the usual alternative to `getUrl`. It is asked by POST, must answer
   * `{"url": ".."}`, and is never cached. Outside of pages (Node) it must begin with `https://` or `http://`. Status 401 (and a `url` of null) ends it all; any other failure is tried again,
   * after the `Retry-After` of its answer if there is one.
   */
  address?: string | Url;
  /**
   * Asks your web API for an address with a fresh token. Called for every attempt. `null` ends it all, for example because
   * nobody is signed in. An exception, or anything but an absolute `ws:` or `wss:` address, leads to another attempt later; not before
   * the `retryAfter` of what was thrown: milliseconds, or the text of a `Retry-After` header.
   */
  getUrl?: (context: ImContext & { attempt: number }) => UrlAnswer | Promise<UrlAnswer>;
  /**
   * Handles one message; awaited, so the next one, and `onResync`, come after it. Only then its position is saved and the server told
   * that it was handled; a message that was not handled when the connection broke comes again. If it fails, it is called again up to
   * `retries` times; then the message is passed over, counts as handled, and is counted in `stats.passedOver`. One that does not return
   * is told after 30 s, and waited for on and on. Where the node cannot resume, it is called all the same.
   */
  onMessage?: (message: any, context: ImMessageContext) => unknown;
  /** How often `onMessage` is called again for a message that it failed on. Default 0. */
  retries?: number;
  /**
   * Loads the state from your web API: at the first connection, and whenever messages may be missing. Messages wait until it is done.
   * If it fails, it is called again. Where the node cannot resume, it is called after each connect. Without it, listen to `resync`: the
   * client itself does not know what is missing.
   */
  onResync?: (resync: ImResync) => unknown;
  /** Whether nodes are asked for connections that can be resumed (`imcore.1`). Default true. */
  resume?: boolean;
  /** Where the position is kept beyond this page. Default: nowhere, so a page that is reloaded begins anew. */
  position?: ImPosition;
  /**
   * The name of the user: all tabs of this origin that give the same one share a connection. One of them leads, and another one takes
   * over, without a loss, when that is closed or asleep. Where there are no locks (old browsers, pages without https) each tab has its own.
   */
  share?: string;
  /**
   * Of tabs that share: whether `onMessage` and `onResync` are called in `"all"` of them (the default), or in the `"leader"` alone.
   * Events are told in all. The server is told that a message was handled when the leader's handler is done.
   */
  handle?: "all" | "leader";
  /** Joins these rooms through your web API. Called after each connect while there are rooms; again if it fails or hangs. */
  rejoin?: (rooms: string[], context: ImContext) => unknown;
  /** Leaves these rooms through your web API. Called by `leave()`, never while `rejoin` is under way; again if it fails. */
  leave?: (rooms: string[], context: ImContext) => unknown;
  /** The set to keep the rooms in, if you have one already, or a list to begin with. Default: an empty set. */
  rooms?: Set<string> | Iterable<string>;
  /** Milliseconds for one call of `rejoin` or `leave`. Default 10,000. */
  rejoinWithin?: number;
  /**
   * Asks your web API whether this connection lives: true or false; or, best, it has something sent to this client
   * and returns nothing, and the arrival of any message within `checkWithin` after that is the answer. An exception, the bare
   * answer of a `fetch` that was refused, or no end within `checkWithin` means "cannot tell": asked again, more and more rarely.
   */
  check?: (context: ImContext) => unknown;
  /** Milliseconds that a check may take, and then the message that it had sent. Default 10,000. */
  checkWithin?: number;
  /** Milliseconds without a message after which the link is checked, or replaced if there is no check. Default 0: never. */
  silence?: number;
  /**
   * Milliseconds for the address, and again for the handshake. Default 10,000. After each attempt that was too slow it grows by half,
   * up to three times.
   */
  connectWithin?: number;
  /**
   * The first pause is drawn from 0 to this many milliseconds (four times as many on a hidden page), doubled with each
   * failure. Default 2,500.
   */
  firstPause?: number;
  /** Milliseconds of the longest pause. Default 30,000. */
  longestPause?: number;
  /** Milliseconds after which a connection counts as good, so that the pauses start small again. Default 5,000. */
  stableAfter?: number;
  /**
   * Turns the text of a message, and that of the message in a receipt, into its value. Default: JSON, or the bare text if it is
   * none. JSON numbers beyond 2^53 lose digits; README.md has a `decode` that keeps them.
   */
  decode?: (text: string) => unknown;
  /** The WebSocket class, where there is none by that name (Node before 22) or another one is wanted. */
  WebSocket?: ImSocketClass;
}

export type UrlAnswer = string | Url | null | undefined;

/** What became of a message that asked for a receipt. */
export interface ImReceipt {
  /** The message, decoded; undefined if it was too large to be sent back, and `id` stands for it. */
  content: unknown;
  /** What your service named the message by when it sent it, if it did. */
  id?: string;
  /** In words, as the original server says it; not on a connection that can be resumed. */
  receipt?: string;
  /** Whom the message was for; always text on a connection that can be resumed. */
  to: number | string;
  /**
   * `sent`: written to a connection of the receiver. `acknowledged`: the receiver has handled it, if it speaks `imcore.1`; the device of
   * any other has it. `offline`: it had no connection. `expired`: it was away and waited for, and did not come back in time, or more came
   * for it than is kept. Over a restart of the receiver's node that stays open, and is answered by the next process if there is a log.
   */
  status: "sent" | "acknowledged" | "offline" | "expired";
}

/** Who of a channel's members is online, where your service has that told (`set_roster`). */
export interface ImRoster {
  channel: string;
  /** How many are. */
  online: number;
  /** Who is: ids, as text. Not there with 200 or more. */
  members?: string[];
  /** Who of them is new to this page: all at first. */
  joined: string[];
  /** Who is there no more. */
  left: string[];
}

/** What listeners get: a `CustomEvent`. */
export type ImEvent<Detail> = BaseEvent & { readonly detail: Detail };

export interface ImEventMap<Message = any> {
  state: ImEvent<{ state: ImState; previous: ImState; retryAt: number }>;
  /** Before the rooms have been joined again: `rejoined` follows. */
  open: ImEvent<{ isReconnect: boolean }>;
  rejoined: ImEvent<{ rooms: string[] }>;
  message: ImEvent<Message>;
  /** The connection goes on from the one before: what was missed follows. */
  resumed: ImEvent<{ missed: number }>;
  /** The state is to be loaded: messages may be missing (`why`; nothing at the first connection). `onResync`, if given, is called. */
  resync: ImEvent<{ why: ImResync["why"] }>;
  receipt: ImEvent<ImReceipt>;
  /**
   * Of a connection that can be resumed; told at once, whatever messages wait. On any other it is a message: see docs/protocol.md,
   * "Rosters".
   */
  roster: ImEvent<ImRoster>;
  /** The server or the network closed the connection, or refused it (1006). */
  close: ImEvent<{ code: number; reason: string; wasClean: boolean; willReconnect: boolean }>;
  kicked: ImEvent<{ reason: string }>;
  error: ImEvent<ImError>;
}

export interface ImStats {
  /** Connections after the first. */
  reconnects: number;
  /** Those that went on from where the one before had ended, and how many messages these brought that had been missed. */
  resumed: number;
  replayed: number;
  /** Messages that were passed over, because `onMessage` had failed on them. */
  passedOver: number;
  /** When something was heard last, as `Date.now()` counts; 0: never. */
  heardAt: number;
}

/** A listener may name the browser's `CustomEvent` instead. */
type Listener<E> = { call(event: E): unknown }["call"] | { handleEvent(event: E): unknown };
interface ListenOptions {
  once?: boolean;
  passive?: boolean;
  capture?: boolean;
  signal?: Signal;
}

/** An `EventTarget`. `Message` is what your service sends. */
export class ImClient<Message = any> {
  constructor(options: ImClientOptions);
  readonly state: ImState;
  /** While waiting or offline without a socket: when the next attempt starts, as `Date.now()` counts; otherwise 0. */
  readonly retryAt: number;
  /** Whether messages are expected to arrive now. */
  readonly isOpen: boolean;
  /** Whether the application is loading its state (`onResync`), and messages wait for that. */
  readonly isSyncing: boolean;
  /** What there was so far, for a look when something is odd. */
  readonly stats: ImStats;
  /**
   * Fulfilled as soon as messages are handed on: connected, and the state loaded. Fails with an `ImError` if the client ends before;
   * waits where it has ended, or has not begun. Each look gives one of its own.
   */
  readonly ready: Promise<void>;
  /** Rooms to join again after each reconnect. Yours to edit. */
  readonly rooms: Set<string>;
  /** Connects, and stays connected until `close()`, a kick or a fatal close code. Nothing happens if it has not ended. */
  connect(): void;
  /** Disconnects for good; `connect()` starts again. Remembers the rooms. */
  close(): void;
  /** Ends the wait for the next attempt, if there is one: for a person's wish. */
  retryNow(): void;
  /**
   * Remembers a room, and joins it by `rejoin` as soon as there is a connection. Joins and leaves are carried out one after the other.
   * The promise never fails: false says that the opposite was asked for before it was done, or that the client was closed.
   */
  join(room: string): Promise<boolean>;
  /** Forgets a room, and leaves it by the option `leave`, with or without a connection. */
  leave(room: string): Promise<boolean>;

  /** Listens, without the event around its detail, until what it returns is called. */
  on<K extends keyof ImEventMap>(type: K, listener: (detail: ImEventMap<Message>[K]["detail"]) => unknown): () => void;
  addEventListener<K extends keyof ImEventMap>(type: K, listener: Listener<ImEventMap<Message>[K]> | null, options?: boolean | ListenOptions): void;
  dispatchEvent(event: BaseEvent): boolean;
  removeEventListener<K extends keyof ImEventMap>(type: K, listener: Listener<ImEventMap<Message>[K]> | null, options?: boolean | ListenOptions): void;
}

/** Reads what a socket receives: the JSON that was sent, or the bare text if it is none. */
export function decodeJson(text: string): unknown;
