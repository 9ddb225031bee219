// Obeys commands from standard input with the package `ws`; one JSON value per line both ways.
// The first argument is the folder that the package is installed in.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const WebSocket = createRequire(process.argv[2] + "/")("ws");
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

let socket;
function open(url) {
  let opened = false;
  socket = new WebSocket(url);
  socket.on("open", () => {
    opened = true;
    tell({ event: "open" });
  });
  socket.on("message", (data, binary) => tell({ event: binary ? "binary" : "text", text: data.toString() }));
  socket.on("unexpected-response", (request, response) => {
    tell({ event: "refused", status: response.statusCode });
    request.destroy();
  });
  socket.on("error", () => {});
  socket.on("close", (code, reason) => {
    if (opened) tell({ event: "closed", code, reason: reason.toString(), clean: code !== 1006 });
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.open) open(command.open);
  else socket.close(command.close, "bye");
}
