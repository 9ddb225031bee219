// A node without a will of its own: it takes connections and does with each of them what it is told, down to single bytes. It
// judges what every client must get right: opening, masks, tokens that are used once.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

const HOST = "127.0.0.1";
const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];

export class Server {
  /** Answers of the web API to come, for all that is not simply an address. */
  answers = [];
  #server;
  #attempted;
  #fault;
  #tokens = 0;
  #open = new Set();
  #sockets = new Set();

  /**
   * @param {(connection: Connection) => void} attempted
   * @param {(text: string) => void} fault of the client
   */
  constructor(attempted, fault) {
    this.#attempted = attempted;
    this.#fault = fault;
  }

  async listen() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on("upgrade", (request, socket) => this.#upgrade(request, socket));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
    });
    this.#server.listen(0, HOST);
    await once(this.#server, "listening");
    this.#port = this.#server.address().port;
    return this;
  }

  #port = 0;

  /** The web API that gives out addresses. */
  get address() {
    return `http://${HOST}:${this.#port}/address`;
  }

  close() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #answer(request, response) {
    request.resume();
    if (request.method !== "POST" || new URL(request.url, this.address).pathname !== "/address") {
      this.#fault(`asked ${request.method} ${request.url} without an upgrade`);
      return response.writeHead(404).end();
    }
    const { status = 200, headers = {}, body } = this.answers.shift() ?? {};
    const token = `t${(this.#tokens += 1)}`;
    this.#open.add(token);
    const text = body ?? JSON.stringify({ url: `ws://${HOST}:${this.#port}/ws?token=${token}` });
    return response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(status === 200 ? text : "");
  }

  #upgrade(request, socket) {
    const { searchParams, pathname } = new URL(request.url, this.address);
    if (pathname !== "/ws") this.#fault(`the path of the address was changed to ${pathname}`);
    const token = searchParams.get("token");
    if (!this.#open.delete(token)) this.#fault("an address was used twice, or without its token");
    if (searchParams.has("since") !== searchParams.has("c")) this.#fault("since and c are given both or neither");
    if (request.headers["sec-websocket-version"] !== "13") this.#fault("the version is not 13");
    this.#attempted(new Connection(request, socket, searchParams, {
      fault: this.#fault,
      // Its token is as good at the right node: engines try at once whether they asked the wrong one.
      misdirected: () => this.#open.add(token),
    }));
  }
}

/** One connection, from the client's request on. */
export class Connection {
  /** Texts that came and nobody has asked for; whoever is told of the next one. */
  heard = [];
  /** Set when the client is gone: with which code, and 1006 without a close frame. */
  gone = undefined;
  changed = () => {};
  #key;
  #socket;
  #fault;
  #misdirected;
  #rest = Buffer.alloc(0);
  #text = undefined;
  #isOver = false;

  constructor(request, socket, query, { fault, misdirected }) {
    this.since = query.get("since");
    this.c = query.get("c");
    const asked = request.headers["sec-websocket-protocol"] ?? "";
    this.asks = asked.split(",").some((name) => name.trim() === "imcore.1");
    this.#key = request.headers["sec-websocket-key"];
    this.#socket = socket;
    this.#fault = fault;
    this.#misdirected = misdirected;
    socket.on("error", () => {});
    socket.on("close", () => this.#left(1006));
  }

  /** @param {string} protocol that is agreed on; empty: none */
  accept(protocol) {
    const accepted = createHash("sha1").update(this.#key + MAGIC).digest("base64");
    const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", `Sec-WebSocket-Accept: ${accepted}`];
    if (protocol) lines.push(`Sec-WebSocket-Protocol: ${protocol}`);
    this.#socket.write(`${lines.join("\r\n")}\r\n\r\n`);
    this.#socket.on("data", (bytes) => this.#read(bytes));
    this.#socket.setNoDelay(true);
  }

  refuse(status, headers = {}) {
    const lines = Object.entries({ "Content-Length": "0", Connection: "close", ...headers }).map(([name, value]) => `${name}: ${value}`);
    this.#isOver = true;
    if (status === 421) this.#misdirected();
    this.#socket.end(`HTTP/1.1 ${status} Refused\r\n${lines.join("\r\n")}\r\n\r\n`);
  }

  say(text) {
    this.bytes(frame(TEXT, Buffer.from(text)));
  }

  binary(text) {
    this.bytes(frame(BINARY, Buffer.from(text)));
  }

  /** In as many frames as there are parts. */
  sayInParts(parts) {
    parts.forEach((part, index) => {
      this.bytes(frame(index === 0 ? TEXT : CONTINUATION, Buffer.from(part), index === parts.length - 1));
    });
  }

  /** Byte by byte, as a network may deliver it. */
  async drip(text) {
    for (const byte of frame(TEXT, Buffer.from(text))) {
      this.bytes(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
  }

  /** The first half of a frame, and no more. */
  half(text) {
    const whole = frame(TEXT, Buffer.from(text));
    this.bytes(whole.subarray(0, Math.ceil(whole.length / 2)));
  }

  ping(text) {
    this.bytes(frame(PING, Buffer.from(text)));
  }

  close(code, reason = "") {
    const words = Buffer.alloc(2 + Buffer.byteLength(reason));
    words.writeUInt16BE(code);
    words.write(reason, 2);
    this.bytes(frame(CLOSE, words));
    this.#isOver = true;
  }

  /** Ends without a word. */
  cut() {
    this.#isOver = true;
    this.#socket.destroy();
  }

  bytes(bytes) {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  #left(code) {
    if (this.gone === undefined) this.gone = code;
    this.changed();
  }

  #read(bytes) {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (let taken = this.#take(); taken; taken = this.#take()) this.#frame(taken);
  }

  /** The next whole frame, if there is one. */
  #take() {
    const rest = this.#rest;
    if (rest.length < 2) return undefined;
    const short = rest[1] & 127;
    const extra = short === 126 ? 2 : short === 127 ? 8 : 0;
    const start = 2 + extra + 4;
    if (rest.length < start) return undefined;
    const length = extra === 2 ? rest.readUInt16BE(2) : extra === 8 ? Number(rest.readBigUInt64BE(2)) : short;
    if ((rest[1] & 128) === 0) this.#fault("a frame is not masked");
    if ((rest[0] & 0x70) !== 0) this.#fault("a frame has reserved bits, of an extension that was not agreed on");
    if (rest.length < start + length) return undefined;
    const mask = rest.subarray(start - 4, start);
    const content = Buffer.from(rest.subarray(start, start + length).map((byte, index) => byte ^ mask[index % 4]));
    this.#rest = rest.subarray(start + length);
    return { isLast: (rest[0] & 128) !== 0, kind: rest[0] & 15, content };
  }

  #frame({ isLast, kind, content }) {
    if (kind === CLOSE) {
      const code = content.length < 2 ? 1005 : content.readUInt16BE();
      if (!this.#isOver) this.bytes(frame(CLOSE, content));
      this.#isOver = true;
      this.#left(code);
      this.#socket.end();
    } else if (kind === PING) this.bytes(frame(PONG, content));
    else if (kind === PONG) this.#hear({ pong: content.toString() });
    else {
      this.#text = kind === CONTINUATION ? Buffer.concat([this.#text, content]) : content;
      if (isLast) this.#word(this.#text.toString());
    }
  }

  #word(text) {
    try {
      this.#hear(JSON.parse(text));
    } catch {
      this.#fault(`said ${JSON.stringify(text)}, which no node understands`);
    }
  }

  #hear(word) {
    this.heard.push({ word, at: performance.now() });
    this.changed();
  }
}

function frame(kind, content, isLast = true) {
  const { length } = content;
  const head = length < 126 ? Buffer.from([0, length]) : Buffer.alloc(length < 65_536 ? 4 : 10);
  if (length >= 126 && length < 65_536) {
    head[1] = 126;
    head.writeUInt16BE(length, 2);
  } else if (length >= 65_536) {
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  head[0] = (isLast ? 128 : 0) | kind;
  return Buffer.concat([head, content]);
}
