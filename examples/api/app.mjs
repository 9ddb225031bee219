#!/usr/bin/env node
// A tiny chat service in JavaScript, without any library: the business side of imserver. It does the same
// as app.py, which says what that is, and what it leaves out. Needs Node 18 or newer.
//
//   imserver --api 127.0.0.1:7001 --api-key none
//   node examples/api/app.mjs 8081

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const API = process.env.IMSERVER_API ?? "http://127.0.0.1:7001";
const KEY = process.env.IMSERVER_API_KEY ?? "";
const ADMINS = new Set((process.env.APP_ADMINS ?? "1").split(",").map(Number));
// Under which names browsers may come: a foreign page can have its own name lead here.
const HOSTS = new Set(["localhost", "127.0.0.1", "[::1]", process.env.APP_HOST ?? "localhost"]);
const SECRET = randomBytes(32);

const BODY = 64 * 1024; // the largest, in bytes
const REFUSED_BODY = 1024 * 1024; // so much of a larger one is read, or its sender would not see the answer
const REQUEST_MS = 20_000; // for a whole request
const CONNECTIONS = 500;
const ROOMS = 20; // of one user
const ROOM_NAME = 100;
const [PER_SECOND, AT_ONCE] = [5, 20]; // what one user does; logins of one address

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

/**
 * Asks imserver. Tries again when nothing was done (503), and where doing it twice is doing it once. A POST that may
 * have been carried out is not sent again: what must not get lost, an order for example, needs an Idempotency-Key
 * for that. A line of a chat does not; imserver would keep its key for ten minutes.
 */
async function im(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (KEY) headers.Authorization = `Bearer ${KEY}`;
  for (const pause of [200, 1000, null]) {
    try {
      const signal = AbortSignal.timeout(5_000);
      const answer = await fetch(API + path, { method, headers, body: JSON.stringify(body), signal });
      const text = await answer.text();
      if (answer.ok) return text ? JSON.parse(text) : undefined;
      if (pause === null || answer.status !== 503) throw new Refused(502, `imserver: ${JSON.parse(text).detail}`);
    } catch (error) {
      if (error instanceof Refused) throw error;
      if (pause === null || method === "POST") throw new Refused(502, `imserver: ${error.message}`);
    }
    await sleep(pause);
  }
}

/** How often somebody may do something. */
const known = new Map();
function pace(who) {
  const now = Date.now();
  if (known.size > 10_000) {
    // Whoever is full again need not be known.
    for (const [key, { at }] of known) if (now - at > (1000 * AT_ONCE) / PER_SECOND) known.delete(key);
  }
  const { left, at } = known.get(who) ?? { left: AT_ONCE, at: now };
  const full = Math.min(AT_ONCE, left + ((now - at) / 1000) * PER_SECOND);
  if (full < 1) throw new Refused(429, "that was too much at once; wait a moment");
  known.set(who, { left: full - 1, at: now });
}

const sessionOf = (user) => `${user}.${createHmac("sha256", SECRET).update(String(user)).digest("hex")}`;

/** The user whose session this is: what a request says of itself is nobody's proof. */
function userOf(authorization = "") {
  const session = Buffer.from(authorization.replace(/^Bearer /, ""));
  const user = session.toString().split(".")[0];
  const right = Buffer.from(sessionOf(user));
  if (session.length !== right.length || !timingSafeEqual(session, right)) throw new Refused(401, "log in first");
  pace(user);
  return Number(user);
}

function number(value) {
  if (!Number.isSafeInteger(value) || value === 0) throw new Refused(400, `bad request: ${String(value).slice(0, 40)} is no user`);
  return value;
}

function textOf({ text }) {
  if (typeof text !== "string") throw new Refused(400, "bad request: there is no text");
  return text;
}

const address = (user) => im("POST", "/v1/connections", { client: user, meta: "app.mjs" });

async function join(room, user) {
  if (!room || [...room].length > ROOM_NAME) {
    throw new Refused(400, `the name of a room has 1 to ${ROOM_NAME} characters`);
  }
  const { channels } = await im("GET", `/v1/clients/${user}`);
  if (channels.length >= ROOMS && !channels.includes(room)) {
    throw new Refused(409, `you are in ${ROOMS} rooms; more are not possible`);
  }
  await im("PUT", `/v1/channels/${encodeURIComponent(room)}/clients/${user}`);
}

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

function kick(user, whom) {
  if (!ADMINS.has(user)) throw new Refused(403, `${user} may kick nobody`);
  return im("DELETE", `/v1/clients/${whom}/connections`);
}

async function route(request, path, body) {
  if (path === "/login") {
    pace(request.socket.remoteAddress);
    return { session: sessionOf(number(body.user)) };
  }
  const user = userOf(request.headers.authorization);
  const [first, room, last, ...more] = path.split("/").slice(1).map(decoded);
  switch ([first, last ?? "", ...more].join("/")) {
    case "address/": return address(user);
    case "rooms/join": return join(room, user);
    case "rooms/say": return sayInRoom(room, user, textOf(body));
    case "say/": return say(user, number(body.to), textOf(body));
    case "kick/": return kick(user, number(body.user));
    default: throw new Refused(404, "there is nothing here");
  }
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Refused(404, "there is nothing here");
  }
}

function checkHost({ headers: { host = "" } }) {
  const name = host.toLowerCase().replace(/:\d*$/, "");
  if (!HOSTS.has(name)) throw new Refused(421, "this service does not go by that name; set APP_HOST");
}

/** Browsers say which page asks; only our own may. */
function checkOrigin({ headers: { host, origin, "sec-fetch-site": site = "none" } }) {
  const own = origin === undefined || origin.toLowerCase().replace(/^[a-z]+:\/\//, "") === host.toLowerCase();
  if (!own || !["same-origin", "none"].includes(site)) throw new Refused(403, "a page of another site may not ask here");
}

async function bodyOf(request) {
  // This type alone has a browser ask before another site's page may send it.
  const type = (request.headers["content-type"] ?? "").split(";")[0].trim().toLowerCase();
  if (type !== "application/json") throw new Refused(415, "send application/json");
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length <= BODY) chunks.push(chunk);
    else if (length > REFUSED_BODY) break;
  }
  if (length > BODY) throw new Refused(413, `a request has at most ${BODY} bytes`);
  try {
    const body = JSON.parse(Buffer.concat(chunks).toString() || "{}");
    if (typeof body === "object" && body && !Array.isArray(body)) return body;
  } catch (error) {
    throw new Refused(400, `bad request: ${error.message}`);
  }
  throw new Refused(400, "bad request: the body is no object");
}

async function file(path) {
  const own = Object.hasOwn(FILES, path) && FILES[path];
  const [name, type] = own || (PART.test(path) ? [`../../client${path}`, FILES["/im.js"][1]] : []);
  const text = name && (await readFile(new URL(name, import.meta.url)).catch(() => null));
  if (!text) throw new Refused(404, "there is nothing here");
  return [type, text];
}

async function answer(request) {
  const path = request.url.split("?")[0];
  checkHost(request);
  if (request.method === "GET") return file(path);
  if (request.method !== "POST") throw new Refused(405, "send a POST request");
  checkOrigin(request);
  const result = await route(request, path, await bodyOf(request));
  return ["application/json", JSON.stringify(result ?? {})];
}

const limits = { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, connectionsCheckingInterval: 2_000 };
const server = createServer(limits, async (request, response) => {
  let [status, type, body] = [200];
  try {
    [type, body] = await answer(request);
  } catch (error) {
    status = error.status ?? 500;
    if (status === 500) console.error(error);
    const text = status === 500 ? "the service failed" : error.message;
    [type, body] = ["application/json", JSON.stringify({ error: text })];
  }
  response.writeHead(status, {
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    // Of a request that was refused the rest may still be on its way.
    ...(status === 200 ? {} : { Connection: "close" }),
  });
  response.end(body);
  if (!request.complete) request.resume();
});
server.setTimeout(2 * REQUEST_MS);
server.maxConnections = CONNECTIONS;

const port = Number(process.argv[2] ?? 8081);
server.on("error", ({ code }) => {
  console.error(`app.mjs: cannot listen on 127.0.0.1:${port}; name another port (${code})`);
  process.exit(1);
});
server.listen(port, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
