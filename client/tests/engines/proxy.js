// A TCP proxy that breaks things, in front of one address. Knows nothing of what passes.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  /**
   * What happens to new connections: `pass`, `rst`, `fin`, `hang` (taken, what it says is never answered), `delay` (by `delayMs` each way), or a number: that
   * HTTP status. What happens to all: `swallow` (read and thrown away in both directions).
   */
  mode = "pass";
  delayMs = 0;
  /** Connections on which something was heard. */
  heard = 0;
  #server;
  #target;
  #pairs = new Set();

  /** @param {{ host: string, port: number }} target */
  constructor(target) {
    this.#target = target;
  }

  async listen(host, port = 0) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#take(client));
    this.#server.listen(port, host);
    await once(this.#server, "listening");
    const { address, port: bound } = this.#server.address();
    this.host = address;
    this.port = bound;
    return this;
  }

  /** Nobody listens any more; what is open stays. */
  async refuse() {
    const closed = new Promise((resolve) => { this.#server.close(resolve); });
    if (this.#pairs.size === 0) await closed;
  }

  /** Listens again, at the same address. */
  async accept() {
    await this.listen(this.host, this.port);
  }

  /**
   * Ends all open connections.
   * @param {"rst" | "fin"} how
   */
  cut(how) {
    for (const pair of this.#pairs) for (const socket of pair) end(socket, how);
  }

  close() {
    this.#server?.close();
    this.cut("rst");
  }

  #take(client) {
    client.on("error", () => {});
    client.once("data", () => { this.heard += 1; });
    const { mode } = this;
    if (mode === "rst" || mode === "fin") return end(client, mode);
    const pair = new Set([client]);
    this.#pairs.add(pair);
    client.on("close", () => this.#pairs.delete(pair));
    if (mode === "hang") {
      // Some engines connect before they have something to say: only what was said is lost.
      client.once("data", (data) => {
        if (this.mode !== "pass") return;
        client.unshift(data);
        this.#forward(client, pair);
      });
      return;
    }
    if (typeof mode === "number") {
      client.once("data", () => client.end(`HTTP/1.1 ${mode} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`));
      return;
    }
    this.#forward(client, pair);
  }

  #forward(client, pair) {
    const node = connect({ ...this.#target, allowHalfOpen: true });
    node.on("error", () => end(client, "rst"));
    pair.add(node);
    this.#pass(client, node);
    this.#pass(node, client);
  }

  #pass(from, to) {
    const late = (act) => (this.delayMs ? setTimeout(act, this.delayMs) : act());
    from.on("data", (data) => late(() => this.mode !== "swallow" && to.writable && to.write(data)));
    from.on("end", () => late(() => this.mode !== "swallow" && to.end()));
    from.on("close", () => this.mode !== "swallow" && late(() => to.destroy()));
  }
}

function end(socket, how) {
  if (how === "rst") socket.resetAndDestroy();
  else socket.end();
}
