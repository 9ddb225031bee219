// The imcore client for Node: im.js without a page. The class that connects is the option WebSocket, or Node's own (22 and newer), or
// that of the package ws, if it is installed.

import { Client } from "./im/client.js";
import { Core } from "./im/core.js";
import { engine } from "./im/engine.js";
import { ImError } from "./im/error.js";
import { decodeJson } from "./im/message.js";
import { sessionPosition } from "./im/storage.js";

export { decodeJson, ImError, sessionPosition };

/** Nobody tells of a network here, or looks. */
const NO_PAGE = { hasBase: false, isOnline: () => true, isHidden: () => false, listen: () => () => {} };
const found = globalThis.WebSocket ?? (await installed());

/** One user's push connection. */
export class ImClient extends Client {
  /** @param {import("./im.d.ts").ImClientOptions} options */
  constructor(options) {
    super(new Core(options, { ...engine(options?.WebSocket ?? found), ...NO_PAGE }));
  }
}

/** @returns {Promise<import("./im.d.ts").ImSocketClass | undefined>} */
async function installed() {
  const name = "ws";
  try {
    return (await import(name)).WebSocket;
  } catch {
    return undefined;
  }
}
