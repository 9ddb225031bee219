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
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = { headers, cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) };
  if (body) {
    request.method = "POST";
    request.body = body;
    headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, request).catch((error) => {
    throw new Error(t(error.name === "TimeoutError" ? "trouble.late" : "trouble.unreachable"));
  });
  if (answer.status === 401) {
    // Another question may have brought the right token meanwhile.
    if (sessionStorage.getItem("token") === token) await (prompt ??= askForToken(Boolean(token)));
    return ask(path, body);
  }
  if (answer.ok) return answer.json();
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
