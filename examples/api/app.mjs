#!/usr/bin/env node
// A tiny chat service in JavaScript, without any library: the business side of imserver. It does the same
// as app.py, which says what that is. Needs Node 18 or newer.
//
//   imserver --api 127.0.0.1:7001 --api-key none
//   node examples/api/app.mjs 8080

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const API = process.env.IMSERVER_API ?? "http://127.0.0.1:7001";
const KEY = process.env.IMSERVER_API_KEY ?? "";

const FILES = {
  "/": ["page.html", "text/html; charset=utf-8"],
  "/im.js": ["../../client/im.js", "text/javascript; charset=utf-8"],
};
// The parts of im.js.
const PART = /^\/im\/[a-z]+\.js$/;

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Asks imserver. The key makes it safe to try again: the request is carried out once. */
async function im(method, path, body) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": randomUUID() };
  if (KEY) headers.Authorization = `Bearer ${KEY}`;
  for (const pause of [200, 1000, null]) {
    try {
      const signal = AbortSignal.timeout(15_000);
      const answer = await fetch(API + path, { method, headers, body: JSON.stringify(body), signal });
      const text = await answer.text();
      if (answer.ok) return text ? JSON.parse(text) : undefined;
      if (pause === null || ![409, 503].includes(answer.status)) {
        throw new Refused(502, `imserver: ${JSON.parse(text).detail}`);
      }
    } catch (error) {
      if (pause === null || error instanceof Refused) throw error;
    }
    await sleep(pause);
  }
}

const login = (user) => im("POST", "/v1/connections", { client: user, meta: "app.mjs" });

const join = (room, user) => im("PUT", `/v1/channels/${encodeURIComponent(room)}/clients/${user}`);

async function sayInRoom(room, user, text) {
  // The rules are ours: imserver would let anybody speak anywhere.
  const { channels } = await im("GET", `/v1/clients/${user}`);
  if (!channels.includes(room)) throw new Refused(403, `${user} is not in ${room}`);
  const message = { room, from: user, text };
  await im("POST", `/v1/channels/${encodeURIComponent(room)}/messages`, { sender: user, message });
}

const say = (user, to, text) =>
  im("POST", "/v1/messages", {
    sender: user,
    receivers: [to],
    message: { from: user, text },
    receipt: true,
  });

const kick = (user) => im("DELETE", `/v1/clients/${user}/connections`);

function number(value) {
  if (!Number.isSafeInteger(value)) throw new Refused(400, `bad request: ${value} is no user`);
  return value;
}

async function route(path, body) {
  const user = number(body.user);
  const [first, room, last] = path.split("/").slice(1).map(decodeURIComponent);
  switch (`${first}/${last ?? ""}`) {
    case "login/": return login(user);
    case "rooms/join": return join(room, user);
    case "rooms/say": return sayInRoom(room, user, String(body.text));
    case "say/": return say(user, number(body.to), String(body.text));
    case "kick/": return kick(user);
    default: throw new Refused(404, "there is nothing here");
  }
}

async function file(path) {
  const [name, type] = FILES[path] ?? (PART.test(path) ? [`../../client${path}`, FILES["/im.js"][1]] : []);
  const text = name && (await readFile(new URL(name, import.meta.url)).catch(() => null));
  if (!text) throw new Refused(404, "there is nothing here");
  return [type, text];
}

async function answer(request) {
  const path = request.url.split("?")[0];
  if (request.method === "GET") return file(path);
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  return ["application/json", JSON.stringify((await route(path, JSON.parse(text))) ?? {})];
}

const server = createServer(async (request, response) => {
  let [status, type, body] = [200];
  try {
    [type, body] = await answer(request);
  } catch (error) {
    status = error.status ?? (error instanceof SyntaxError ? 400 : 502);
    [type, body] = ["application/json", JSON.stringify({ error: error.message })];
  }
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
});

server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
