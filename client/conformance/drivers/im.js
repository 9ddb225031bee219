// The driver of im.js: its core in Node, with a clock that runs faster. ../README.md says what a driver is.

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Core } from "../../im/core.js";
import { engine } from "../../im/engine.js";

/** How many times faster: fast enough not to wait long, slow enough for a busy machine to keep the limits of a handshake. */
const SPEED = 5;

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const begun = Date.now();
/** What the application is to hold up, and who waits until it may go on. */
const held = new Set();
const waiting = [];
const mayGoOn = async (what) => held.has(what) && new Promise((resolve) => waiting.push(resolve));
let client;
let wake;

const environment = {
  ...engine(undefined),
  now: () => performance.now() * SPEED,
  wall: () => begun + performance.now() * SPEED,
  later: (ms, call) => {
    const timer = setTimeout(call, ms / SPEED);
    return () => clearTimeout(timer);
  },
  hasBase: false,
  isOnline: () => true,
  isHidden: () => false,
  listen: (listener) => {
    wake = listener;
    return () => {};
  },
};

function start({ address, store }) {
  client = new Core({
    address,
    rooms: ["lobby"],
    position: {
      load: () => {
        try {
          return readFileSync(store, "utf8");
        } catch {
          return "";
        }
      },
      save: (text) => writeFileSync(store, text),
    },
    rejoin: async () => tell({ is: "join" }),
    onMessage: async (value) => {
      tell({ is: "message", value });
      await mayGoOn("message");
    },
    onResync: async ({ why = null }) => {
      tell({ is: "load", why });
      await mayGoOn("load");
    },
  }, environment);
  client.on("receipt", ({ to, status, id }) => tell({ is: "receipt", to, status, id }));
  client.on("state", ({ state }) => ["kicked", "failed", "closed"].includes(state) && tell({ is: "end", why: state }));
  client.connect();
}

const CALLS = {
  start,
  hold: ({ what }) => held.add(what),
  release: () => {
    held.clear();
    for (const goOn of waiting.splice(0)) goOn();
  },
  doubt: () => {
    wake.networkIsGone();
    wake.networkIsBack();
  },
  stop: () => {
    CALLS.release();
    client.close();
  },
  away: () => wake.isPutAway(),
  back: () => wake.isBack(),
  "sign out": () => client.close(),
  "sign in": () => client.connect(),
};

tell({ is: "ready", speed: SPEED });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  CALLS[command.do](command);
  tell({ is: "done" });
}
process.exit();
