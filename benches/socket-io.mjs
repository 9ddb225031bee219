// Memory of a Socket.IO server per idle connection, as `loadtest rows memory` measures it for imcore: the slope of the
// process's Pss from FEW to MANY connections over WebSocket.
//
//   npm install --prefix target/others socket.io@4.8.4 ws@8.23.0 && node benches/socket-io.mjs
//
// Node runs the server in a process of its own; this one is the clients.

import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const [FEW, MANY] = [2_000, 18_000];
const ROUND = 200;
const require = createRequire(new URL("../target/others/", import.meta.url));

/** A server that does nothing but keep its connections. */
async function serve() {
  const { Server } = require("socket.io");
  const io = new Server({ transports: ["websocket"] });
  io.listen(0, { host: "127.0.0.1" });
  io.httpServer.once("listening", () => process.send(io.httpServer.address().port));
  process.on("message", () => { globalThis.gc(); process.send("collected"); });
}

/** A client that has joined the default namespace and answers pings; from one of many addresses, so that ports suffice. */
function connect(port, number) {
  const WebSocket = require("ws");
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`, {
      perMessageDeflate: false,
      localAddress: `127.0.1.${1 + (number % 100)}`,
    });
    socket.on("error", reject);
    socket.on("message", (data) => {
      const text = data.toString();
      if (text.startsWith("0")) socket.send("40");
      if (text === "2") socket.send("3");
      if (text.startsWith("40")) resolve(socket);
    });
  });
}

async function pss(server) {
  const collected = new Promise((resolve) => server.once("message", resolve));
  server.send("collect");
  await collected;
  await pause(2000);
  return 1024 * Number(readFileSync(`/proc/${server.pid}/smaps_rollup`, "utf8").match(/^Pss: *(\d+) kB/m)[1]);
}

async function measure() {
  const server = fork(fileURLToPath(import.meta.url), ["serve"], { execArgv: ["--expose-gc"] });
  const port = await new Promise((resolve) => server.once("message", resolve));
  const sockets = [];
  const grow = async (count) => {
    while (sockets.length < count) sockets.push(...await Promise.all(Array.from({ length: ROUND }, (_, number) => connect(port, number))));
  };
  await grow(FEW);
  const few = await pss(server);
  await grow(MANY);
  const many = await pss(server);
  console.log(`${Math.round((many - few) / (MANY - FEW))} B per connection (Pss, ${FEW} to ${MANY})`);
  server.kill();
  process.exit();
}

await (process.argv[2] === "serve" ? serve() : measure());
