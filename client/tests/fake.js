// A socket, a page and clocks that the test moves. Each test file that imports this gets fresh ones for every test.

import { afterEach, beforeEach, mock } from "node:test";
import { Core } from "../im/core.js";
import { ImClient } from "../im.js";
import { ImClient as ProgramClient } from "../miniprogram.js";
import { ImClient as AppClient } from "../react-native.js";
import { Program, ReactNative } from "./platforms.js";

/** A socket in the test's hands. */
export class FakeSocket {
  static all = [];
  isClosed = false;

  constructor(url, protocols) {
    if (!/^wss?:/i.test(url)) throw new SyntaxError(`not a WebSocket address: ${url}`);
    this.url = url;
    this.protocols = protocols;
    FakeSocket.all.push(this);
  }

  static get last() {
    return FakeSocket.all.at(-1);
  }

  close(code, reason) {
    this.isClosed = true;
    this.closedWith = code;
  }

  open() {
    this.onopen();
  }

  says(value) {
    this.onmessage({ data: typeof value === "string" ? value : JSON.stringify(value) });
  }

  ends(code, reason = "") {
    this.onclose({ code, reason, wasClean: code !== 1006 });
  }
}

const START = Date.UTC(2026, 0);
/** What the test adds to the two clocks. */
let steadyAhead;
let wallAhead;
/** What `Math.random` gives. */
let share;
let window;
let page;
let urls;
let clients;
/** Who listens to the page of the bare environment. */
let wakes;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: START });
  [steadyAhead, wallAhead] = [1_000, 0];
  const ticking = Date.now;
  mock.method(Date, "now", () => ticking() + wallAhead);
  mock.method(performance, "now", () => ticking() - START + steadyAhead);
  // Every pause is its longest: the back-off becomes exact.
  draw(1);
  const { random } = Math;
  mock.method(Math, "random", () => share ?? random());
  FakeSocket.all = [];
  Program.last = new Program(FakeSocket);
  ReactNative.last = new ReactNative();
  urls = 0;
  clients = [];
  wakes = new Set();
  window = new EventTarget();
  page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.removeEventListener = window.removeEventListener.bind(window);
  globalThis.document = page;
  globalThis.location = { href: "https://www.example.com/" };
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
  mock.restoreAll();
  removePage();
});

/** As in a program that is no browser. */
export function removePage() {
  for (const name of ["addEventListener", "removeEventListener", "document", "navigator", "location"]) delete globalThis[name];
}

/** Lets promises run; no time passes. */
export async function settle() {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve();
}

export async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

/**
 * Says which part of each length is drawn from now on.
 * @param {number | undefined} part of 1; undefined: any, as in life
 */
export function draw(part) {
  share = part;
}

/** Somebody sets the wall clock, and no time passes. */
export function setClock(ms) {
  wallAhead += ms;
}

/** The machine sleeps: no timer runs, both clocks go on. */
export function sleep(ms) {
  steadyAhead += ms;
  setClock(ms);
}

export function network(isThere) {
  globalThis.navigator.onLine = isThere;
  window.dispatchEvent(new Event(isThere ? "online" : "offline"));
  wake(isThere ? "networkIsBack" : "networkIsGone");
  Program.last.network(isThere ? "wifi" : "none");
  ReactNative.last.network(isThere ? "wifi" : "none");
}

export function visible(isVisible) {
  page.visibilityState = isVisible ? "visible" : "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
  wake(isVisible ? "isVisible" : "isHidden");
  ReactNative.last.turn(isVisible ? "active" : "inactive");
}

/** `pagehide`, `pageshow`, `freeze` or `resume`. */
export function lifecycle(type, persisted) {
  const target = type.startsWith("page") ? window : page;
  target.dispatchEvent(Object.assign(new Event(type), { persisted }));
  if (type !== "freeze" && type !== "resume") return;
  wake(type === "freeze" ? "isPutAway" : "isBack");
  Program.last.tell(type === "freeze" ? "AppHide" : "AppShow");
  ReactNative.last.turn(type === "freeze" ? "background" : "active");
}

function wake(what) {
  for (const listener of [...wakes]) listener[what]();
}

/** An environment of no engine's: it has no `AbortController`, no event and no page of its own. */
export function bare() {
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    later: (ms, call) => {
      const timer = setTimeout(call, ms);
      return () => clearTimeout(timer);
    },
    random: () => Math.random(),
    connect,
    post: () => Promise.reject(new Error("no web API")),
    hasBase: true,
    isOnline: () => globalThis.navigator.onLine,
    isHidden: () => page.visibilityState === "hidden",
    listen: (listener) => {
      wakes.add(listener);
      return () => wakes.delete(listener);
    },
  };
}

function connect(url, protocols, listener) {
  const socket = new FakeSocket(url, protocols.length ? protocols : undefined);
  let [isOver, wasOpen] = [false, false];
  socket.onopen = () => {
    wasOpen = true;
    if (!isOver) listener.opened();
  };
  socket.onmessage = ({ data }) => isOver || listener.received(data);
  socket.onclose = (end) => {
    if (isOver) return;
    isOver = true;
    listener.ended({ ...end, wasOpen });
  };
  return {
    get protocol() {
      return socket.protocol ?? "";
    },
    send: (text) => isOver || socket.send?.(text),
    close: (code, reason) => {
      isOver = true;
      socket.close(code, reason);
    },
  };
}

/** Each way to a client. */
export const ADAPTERS = {
  "im.js": (options) => new ImClient({ WebSocket: FakeSocket, ...options }),
  "the core alone": (options) => new Core(options, bare()),
  "mini program": (options) => new ProgramClient(Program.last, options),
  "React Native": (options) => new AppClient(ReactNative.last, { WebSocket: FakeSocket, ...options }),
};

/** The page's policy forbids something. */
export function violation(detail) {
  page.dispatchEvent(Object.assign(new Event("securitypolicyviolation"), detail));
}

/** A client and what it has told, as `type` or `type:detail`; errors also as they are. */
export function create(options = {}, adapter = "im.js") {
  const getUrl = async () => `wss://im.example.com/ws?token=${(urls += 1)}`;
  const client = ADAPTERS[adapter]({ getUrl, ...options });
  const told = [];
  const errors = [];
  client.on("state", ({ state }) => told.push(state));
  client.on("kicked", () => told.push("event:kicked"));
  client.on("error", (error) => {
    told.push(`error:${error.kind}`);
    errors.push(error);
  });
  client.on("close", ({ code, willReconnect }) => told.push(`close:${code}:${willReconnect}`));
  clients.push(client);
  return { client, told, errors };
}

/** The same, when its first connection is open. */
export async function opened(options) {
  const made = create(options);
  made.client.connect();
  await settle();
  FakeSocket.last.open();
  await settle();
  made.told.length = 0;
  return made;
}

/** Milliseconds until the next attempt. */
export function pauseOf(client) {
  return client.retryAt - Date.now();
}

/** Waits for the next attempt and opens it. */
export async function reopen(client) {
  if (client.retryAt) await pass(pauseOf(client));
  FakeSocket.last.open();
  await settle();
}
