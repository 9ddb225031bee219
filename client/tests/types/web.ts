// A page: the DOM's own types fit.

import { ImClient } from "../../im.js";

const im = new ImClient({
  getUrl: ({ signal }) => fetch("/address", { method: "POST", signal }).then((answer) => answer.text()),
  check: ({ signal }) => fetch("/check", { method: "POST", signal }),
  rejoin: async (rooms, { signal }) => { await fetch("/join", { method: "POST", body: rooms.join(), signal }); },
  WebSocket,
});
im.addEventListener("message", (event: CustomEvent<any>) => event.detail);
im.addEventListener("open", (event: CustomEvent<{ isReconnect: boolean }>) => event.preventDefault());
const listener = (event: Event) => event.type;
const target: EventTarget = im;
target.removeEventListener("state", listener);
im.addEventListener("state", listener, { passive: true, signal: new AbortController().signal });
im.removeEventListener("state", listener);

new ImClient({ address: new URL("https://host/api/push-address"), rooms: new Set(["a"]) }).close();
