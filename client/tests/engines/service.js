// The business of the tests: gives out addresses, joins rooms, has links checked, and serves the page. Each client finds it in
// a mood of its own.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { HOST } from "./node.js";

const CLIENT = new URL("../../", import.meta.url);
const FILES = /^\/(im\.js|im\/[a-z]+\.js|tests\/engines\/driver\.js)$/;
const PAGE = `<!doctype html><title>client</title><link rel="icon" href="data:,">
<script type="module">import { ImClient } from "/im.js"; import { obey } from "/tests/engines/driver.js";
globalThis.obey = (command, tell) => obey(command, tell, ImClient); globalThis.isReady = true;</script>`;

/** How the service treats one client. */
export class Account {
  /** Of each call: `ok`, `hang`, `{ status, headers? }`, or `{ body }`. */
  mood = { address: "ok", check: "ok", join: "ok" };
  /** Calls that came, and those whose caller gave up before the answer. */
  calls = { address: 0, check: 0, join: 0 };
  givenUp = { address: 0, check: 0, join: 0 };
  headers = {};

  constructor(client, proxy) {
    this.client = client;
    this.proxy = proxy;
  }
}

export class Service {
  #server;
  #node;
  #accounts = new Map();

  constructor(node) {
    this.#node = node;
  }

  async listen() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
    });
    this.#server.listen(0, HOST);
    await once(this.#server, "listening");
    this.url = `http://${HOST}:${this.#server.address().port}`;
    return this;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  account(client, proxy) {
    const account = new Account(client, proxy);
    this.#accounts.set(String(client), account);
    return account;
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    const [, call, client] = pathname.split("/");
    if (request.method === "POST") return this.#call(call, this.#accounts.get(client), request, response);
    if (FILES.test(pathname)) {
      response.writeHead(200, { "Content-Type": "text/javascript; charset=utf-8" });
      return response.end(await readFile(new URL(`.${pathname}`, CLIENT)));
    }
    const policy = searchParams.get("csp");
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", ...(policy && { "Content-Security-Policy": policy }) });
    response.end(PAGE);
  }

  async #call(call, account, request, response) {
    account.calls[call] += 1;
    account.headers[call] = request.headers;
    response.on("close", () => { if (!response.writableEnded) account.givenUp[call] += 1; });
    const body = await text(request);
    const mood = account.mood[call];
    if (mood === "hang") return;
    if (mood.status) return response.writeHead(mood.status, mood.headers).end();
    const answer = mood.body !== undefined ? mood.body : await this.#does(call, account, body);
    response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
  }

  async #does(call, { client, proxy }, body) {
    if (call === "address") return { url: await this.#node.addressOf(client, proxy) };
    if (call === "check") return { sent: await this.#node.send(client, { isCheck: true }) };
    for (const room of JSON.parse(body)) await this.#node.ask("PUT", `/v1/channels/${room}/clients/${client}`);
    return {};
  }
}

async function text(request) {
  let all = "";
  for await (const chunk of request.setEncoding("utf8")) all += chunk;
  return all;
}
