// Talks to the node that served the page: with the token it asks for, and with a deadline.

import { t } from "./language.js";
import { $, announce, put } from "./show.js";

const DEADLINE_MS = 6000;
let prompt;

// The start line of a node has the page's address with the token that was made for it. It does not stay in the address,
// where whoever looks at the screen or the history would see it.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}

/** What a path answers, as JSON; with `body`, a JSON text, something is done. Throws what went wrong, for a person. */
export async function ask(path, body) {
  const answer = await request(path, () => AbortSignal.timeout(DEADLINE_MS), body);
  return answer.json();
}

/** What a path goes on telling until it ends, or `signal` ends it: the name of each event, and its data. */
export async function* listen(path, signal) {
  const answer = await request(path, () => signal);
  let rest = "";
  for await (const chunk of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + chunk).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(event) ?? [];
      if (name) yield [name, JSON.parse(data)];
    }
  }
}

/** The pieces of a stream: not every browser walks through one by itself. */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** The answer to a question, if it is a good one; `signal` gives what ends it. */
async function request(path, signal, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers, cache: "no-store", signal: signal() };
  if (body) {
    options.method = "POST";
    options.body = body;
    headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options).catch((error) => {
    throw new Error(t(error.name === "TimeoutError" ? "trouble.late" : "trouble.unreachable"));
  });
  if (answer.status === 401) {
    // Another question may have brought the right token meanwhile.
    if (sessionStorage.getItem("token") === token) await (prompt ??= askForToken(Boolean(token)));
    return request(path, signal, body);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  throw new Error(answer.headers.get("Content-Type") === "application/json" ? JSON.parse(text).error : text.trim());
}

/** Has something done, and says that it was, or why not; the answer, if it was. */
export async function act(path, body, done) {
  try {
    const answer = await ask(path, body);
    announce(done);
    return answer;
  } catch (error) {
    announce(error.message, true);
    return null;
  }
}

async function askForToken(refused) {
  put("state", t("state.token"));
  put("ask-token-why", t(refused ? "token.wrong" : "token.stays"));
  await choice("ask-token");
  sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  prompt = undefined;
}

/** Opens a dialog and waits for its end: the value of the button, empty if there was none. */
export function choice(id) {
  const dialog = $(id);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", function ended() {
      // The event of the time before may come late.
      if (dialog.open) return;
      dialog.removeEventListener("close", ended);
      done(dialog.returnValue);
    });
  });
}
