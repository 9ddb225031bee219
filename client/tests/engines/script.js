// A node that does what the path of the address says: `/close/CODE/REASON`, `/binary`. For what a real node does too seldom.

import { once } from "node:events";
import { createRequire } from "node:module";
import { packages } from "./engine.js";
import { HOST } from "./node.js";

export class ScriptedNode {
  #server;

  async listen() {
    const { WebSocketServer } = createRequire(`${packages}/`)("ws");
    this.#server = new WebSocketServer({ host: HOST, port: 0 });
    this.#server.on("connection", (socket, request) => {
      socket.on("error", () => {});
      const [, what, code, reason] = request.url.split("/").map(decodeURIComponent);
      if (what === "close") socket.close(Number(code), reason);
      else if (what === "binary") socket.send(Buffer.from("{}"), { binary: true });
      // A frame that no client may accept.
      else socket._socket.write(Buffer.from([0xf1, 0x01, 0x41]));
    });
    await once(this.#server, "listening");
    this.url = `ws://${HOST}:${this.#server.address().port}`;
    return this;
  }

  close() {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
  }
}
