// Events that nobody misses, in JavaScript without any library: README.md beside this says what it does. Node 18 or newer.
//
//   node events.mjs billing ledger.txt

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const API = process.env.IMSERVER_API ?? "http://127.0.0.1:7001";
const KEY = process.env.IMSERVER_API_KEY ?? "";
const SILENCE = 30_000; // milliseconds; imserver says something every 10 s

async function ask(path, { body, headers, signal = AbortSignal.timeout(SILENCE) } = {}) {
    const answer = await fetch(API + path, {
        method: body ? "POST" : "GET",
        headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json", ...headers },
        body: body && JSON.stringify(body),
        signal,
    });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}: ${await answer.text()}`);
    return answer;
}

async function whoIsOnline() {
    const clients = [];
    for (let query = ""; query !== null;) {
        const page = await (await ask(`/v1/clients?limit=1000${query}`)).json();
        clients.push(...page.clients);
        query = page.next === null ? null : `&after=${encodeURIComponent(page.next)}`;
    }
    return clients;
}

// Stands for your database.
class Ledger {
    constructor(path) {
        this.path = path;
        const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
        this.known = new Set(lines.map((line) => line.split(" ")[0]));
    }

    write(...words) {
        appendFileSync(this.path, words.join(" ") + "\n");
    }

    // What comes a second time has the same id, and changes nothing.
    handle(kind, event) {
        if (this.known.has(event.id)) return;
        this.write(event.id, kind, event.client ?? "-", event.reason ?? "-");
        this.known.add(event.id);
    }

    // Some were never told: what is true now replaces what they would have said.
    async missed(count) {
        this.write("-", "missed", count, "online", (await whoIsOnline()).length);
    }
}

// Kind, data and position of each event.
async function* told(stream, heard) {
    let fields = {}, rest = "";
    for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
        heard();
        const lines = (rest + piece).split("\n");
        rest = lines.pop();
        for (const line of lines) {
            const at = line.indexOf(": ");
            if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
            if (line !== "" || !("data" in fields)) continue;
            yield { kind: fields.event, data: JSON.parse(fields.data), position: fields.id };
            fields = {};
        }
    }
    throw new Error("the stream has ended");
}

const [group, path] = process.argv.slice(2);
const ledger = new Ledger(path);
let last, pause;

async function read() {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(new Error("nothing was heard")), SILENCE);
    try {
        const headers = last ? { "Last-Event-ID": last } : {};
        const query = `group=${encodeURIComponent(group)}`;
        const stream = await ask(`/v1/events?${query}`, { headers, signal: silence.signal });
        for await (const { kind, data, position } of told(stream.body, () => timer.refresh())) {
            let done = { group, ids: [data.id] };
            if (kind === "missed") {
                await ledger.missed(data.missed);
                done = { group, missed: data.missed ?? 0 };
            } else {
                ledger.handle(kind, data);
            }
            await ask("/v1/events/acknowledgements", { body: done });
            [last, pause] = [position ?? last, 500];
        }
    } finally {
        clearTimeout(timer);
        silence.abort();
    }
}

for (pause = 500; ; pause = Math.min(2 * pause, 30_000)) {
    await read().catch((error) => console.error("once more:", error.message));
    await sleep(pause * (0.5 + Math.random() / 2));
}
