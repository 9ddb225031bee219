// Node without the DOM's types, with the class of the package ws.

import WS from "ws";
import { ImClient, ImError, type ImReceipt } from "../../im.js";

interface Chat {
  text: string;
}

const im = new ImClient<Chat>({
  getUrl: async ({ signal, attempt }) => (signal.aborted || attempt > 9 ? null : new URL("wss://host/")),
  WebSocket: WS,
  rooms: ["a"],
});
im.addEventListener("message", ({ detail }) => detail.text.length);
im.addEventListener("message", function (event) { event.detail.text.length; }, { once: true });
im.addEventListener("receipt", ({ detail }) => {
  const receipt: ImReceipt = detail;
  return receipt.status === "sent" && receipt.to;
});
im.addEventListener("error", ({ detail }) => detail instanceof ImError && detail.kind === "url" && detail.retryAfter);
im.join("a").then((isDone: boolean) => isDone);
// @ts-expect-error: messages have no such member.
im.addEventListener("message", ({ detail }) => detail.nothing);
// @ts-expect-error: there is no such event.
im.addEventListener("mesage", () => {});

new ImClient({ address: "https://host/api/push-address" }).addEventListener("message", ({ detail }) => detail.whatever);
