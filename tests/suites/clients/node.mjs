// One connection by a package from npm, or by the runtime's own class: `node.mjs LIBRARY URL TEXTS FOLDER`. Leaves with
// 1000 `bye` after so many texts, or stays. Prints what python.py beside it prints.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const [library, url, texts, folder] = process.argv.slice(2);
const load = createRequire(folder + "/");
const tell = (value) => console.log(JSON.stringify(value));
let seen = 0;
// Tells a text, and whether it was the last.
const text = (data) => {
  tell({ text: createHash("sha256").update(data).digest("hex") });
  seen += 1;
  return seen === Number(texts);
};

const libraries = {
  ws() {
    const socket = new (load("ws"))(url);
    let refused = false;
    socket.on("unexpected-response", (request, response) => {
      refused = true;
      tell({ refused: response.statusCode });
      request.destroy();
    });
    socket.on("open", () => tell({ open: true }));
    socket.on("message", (data) => text(data) && socket.close(1000, "bye"));
    socket.on("close", (code, reason) => refused || tell({ closed: [code, reason.toString()] }));
    socket.on("error", () => {});
  },

  websocket() {
    const client = new (load("websocket").client)({ maxReceivedFrameSize: 1 << 24, maxReceivedMessageSize: 1 << 24 });
    // It tells the status in words only.
    client.on("connectFailed", (error) => tell({ refused: Number(/status:? (\d{3})/.exec(error.message)?.[1]) }));
    client.on("connect", (socket) => {
      tell({ open: true });
      socket.on("message", (message) => text(message.utf8Data) && socket.close(1000, "bye"));
      socket.on("close", (code, reason) => tell({ closed: [code, reason] }));
    });
    client.connect(url);
  },

  faye() {
    const socket = new (load("faye-websocket").Client)(url, [], { maxLength: 1 << 24 });
    let refused = false;
    socket.on("open", () => tell({ open: true }));
    socket.on("message", (event) => text(event.data) && socket.close(1000, "bye"));
    socket.on("error", (error) => {
      const status = /response code: (\d{3})/.exec(error.message);
      if (status && !refused) tell({ refused: Number(status[1]) });
      refused ||= Boolean(status);
    });
    socket.on("close", (event) => refused || tell({ closed: [event.code, event.reason] }));
  },

  // Classes after the WHATWG standard tell no status: a refusal is an end without an opening.
  whatwg(WebSocket = globalThis.WebSocket) {
    const socket = new WebSocket(url);
    let opened = false;
    let ended = false;
    const end = (value) => {
      if (!ended) tell(value);
      ended = true;
    };
    socket.onopen = () => {
      opened = true;
      tell({ open: true });
    };
    socket.onmessage = (event) => text(event.data) && socket.close(1000, "bye");
    socket.onerror = () => setTimeout(() => opened || end({ refused: null }), 0);
    socket.onclose = (event) => end(opened ? { closed: [event.code, event.reason] } : { refused: null });
  },

  undici: () => libraries.whatwg(load("undici").WebSocket),
};
libraries[library]();
