// A browser's sockets, without a browser: it opens six at the same moment, and keeps them.
//
//   cargo build --release --example chat
//   node tests/demo/sockets.mjs
//
// Twenty fresh processes of the demo, because a server that starts its threads late fails at the first load only.
// CHAT_BIN names another program than the default one.

import { connect } from "node:net";
import { Demo } from "./server.mjs";

const STARTS = 20;
const SOCKETS = 6;
const PATIENCE_MS = 60_000;

/** One keep-alive connection. */
class Line {
  #socket;
  #port;
  #heard = "";
  #wake = () => {};

  constructor(url) {
    this.#port = new URL(url).port;
    this.#socket = connect(this.#port, "127.0.0.1");
    this.#socket.setEncoding("utf8").on("data", (text) => {
      this.#heard += text;
      this.#wake();
    });
    for (const end of ["close", "error"]) this.#socket.on(end, () => this.#wake());
  }

  /** The status of the answer to a request; null if none came in time. */
  async ask(method, path) {
    this.#heard = "";
    const length = method === "POST" ? "Content-Length: 0\r\n" : "";
    this.#socket.write(`${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.#port}\r\n${length}\r\n`);
    const end = Date.now() + PATIENCE_MS;
    while (!this.#socket.destroyed && Date.now() < end) {
      const [head, body] = this.#heard.split(/\r\n\r\n(.*)/s);
      const expected = /^content-length: (\d+)/im.exec(head)?.[1];
      if (body !== undefined && Buffer.byteLength(body) >= Number(expected)) return Number(head.split(" ")[1]);
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, Math.max(0, end - Date.now()));
      });
    }
    return null;
  }

  close() {
    this.#socket.destroy();
  }
}

/** Fails unless all answers are `wanted`. */
async function all(what, wanted, answers) {
  const statuses = await Promise.all(answers);
  if (statuses.some((status) => status !== wanted)) throw new Error(`${what}: ${statuses.join(" ")}`);
}

async function freshProcess() {
  const demo = await Demo.prepare();
  await demo.start();
  const lines = Array.from({ length: SOCKETS }, () => new Line(demo.urls[0]));
  const more = [];
  try {
    await all("six requests at once", 200, lines.map((line) => line.ask("GET", "/view.js")));
    // All six stay open; what is clicked meanwhile may come over others.
    more.push(...Array.from({ length: SOCKETS }, () => new Line(demo.urls[0])));
    await all("six calls beside six idle connections", 200, more.map((line) => line.ask("POST", "/ws/pre-connect")));
    await all("the idle ones again", 200, lines.map((line) => line.ask("POST", "/ws/get-channels")));
  } finally {
    for (const line of [...lines, ...more]) line.close();
    await demo.stop("SIGTERM");
  }
}

for (let start = 1; start <= STARTS; start += 1) {
  await freshProcess().catch((error) => {
    console.error(`FAILED  fresh process ${start}: ${error.message}`);
    process.exit(1);
  });
}
console.log(`ok  ${SOCKETS} sockets at once, on ${STARTS} fresh processes`);
