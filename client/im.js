// The imcore client for browsers: one push connection that stays up. No dependency, no DOM beyond events.
//
// Usage is in README.md, types are in im.d.ts, the parts in the folder im. For Node there is node.js.

import { browser } from "./im/browser.js";
import { Client } from "./im/client.js";
import { Core } from "./im/core.js";
import { ImError } from "./im/error.js";
import { decodeJson } from "./im/message.js";
import { sessionPosition } from "./im/storage.js";
import { Tabs } from "./im/tabs.js";

export { decodeJson, ImError, sessionPosition };

/** One user's push connection. */
export class ImClient extends Client {
  /** @param {import("./im.d.ts").ImClientOptions} options */
  constructor(options) {
    const env = browser(options?.WebSocket);
    super(options?.share !== undefined && env.between ? new Tabs(options, env) : new Core(options, env));
  }
}
