// node main.js CLASS [FOLDER]: a client in Node; commands come in as lines of JSON, events go out as such. CLASS is `own`, or
// the package in FOLDER that has the WebSocket class.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { ImClient } from "../../node.js";
import { obey } from "./driver.js";

const [name, folder] = process.argv.slice(2);
const WebSocket = name === "own" ? undefined : createRequire(`${folder}/`)(name).WebSocket;
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
for await (const line of createInterface({ input: process.stdin })) obey(JSON.parse(line), tell, ImClient, WebSocket);
process.exit();
