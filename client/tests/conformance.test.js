// The client passes what every client has to: the scenarios of ../conformance.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { run, scenarios } from "../conformance/run.js";

const DRIVER = fileURLToPath(new URL("../conformance/drivers/im.js", import.meta.url));
/** Node 20 has a class of its own behind a flag. */
const FLAGS = process.versions.node.startsWith("20.") ? ["--experimental-websocket", "--no-warnings"] : [];

test("the client passes the conformance kit", async () => {
  const faults = [];
  let count = 0;
  const done = (name, fault) => {
    count += 1;
    if (fault !== undefined) faults.push(`${name}: ${fault}`);
  };
  await run([process.execPath, ...FLAGS, DRIVER], { done });
  assert.deepEqual(faults, []);
  assert.equal(count, (await scenarios()).length);
});
