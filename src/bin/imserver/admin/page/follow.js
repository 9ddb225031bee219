// Following a client, a channel or a message live, as the node that answers sees it: a stream that ends by itself.

import { listen } from "./ask.js";
import { dotted, exactly, named, t, whole } from "./language.js";
import { $, el, put } from "./show.js";

// How long, and how many lines are kept.
const SECONDS = 120, LINES = 500;
/** Ends the stream that is shown. */
let stop = () => {};

/** Follows a `client`, a `channel` or the messages with an id. */
export async function follow(kind, what) {
  stop();
  const abort = new AbortController();
  stop = () => abort.abort();
  $("follow-kind").value = kind;
  $("follow-what").value = what;
  $("followed").replaceChildren();
  $("follow-stop").hidden = false;
  $("follow").scrollIntoView({ block: "nearest" });
  put("follow-note", "");
  try {
    for await (const [name, data] of listen(`follow?${new URLSearchParams({ [kind]: what, seconds: SECONDS })}`, abort.signal)) {
      // Another may be followed by now.
      if (abort.signal.aborted) return;
      if (name === "following") put("follow-note", t(data.texts ? "follow.note.texts" : "follow.note", data));
      else if (name !== "ended") show(name, data);
    }
    put("follow-note", t("follow.ended"));
  } catch (error) {
    if (!abort.signal.aborted) put("follow-note", error.message);
    else if ($("follow-stop").hidden) put("follow-note", t("follow.ended"));
  } finally {
    if (!abort.signal.aborted) $("follow-stop").hidden = true;
  }
}

function show(name, seen) {
  const { client, connection, channel, id, position, bytes, code, reason, text, count } = seen;
  const said = el("span", "", el("b", "", t(`seen.${name}`, { count: count == null ? null : whole(count) })), " ", dotted(
    client && t("seen.client", { client }),
    connection != null && t("client.connection", { number: connection }),
    channel && t("seen.channel", { channel }),
    id && t("seen.id", { id }),
    position && `#${position}`,
    bytes != null && t("seen.bytes", { count: whole(bytes) }),
    code && t("seen.code", { code }),
    reason && named("closed", reason)));
  if (text) said.append(el("small", "", text));
  const list = $("followed");
  list.prepend(el("li", name === "dropped" || name === "skipped" ? "bad" : "", el("time", "dim", exactly(Date.parse(seen.at))), said));
  if (list.children.length > LINES) list.lastChild.remove();
}

$("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  follow($("follow-kind").value, $("follow-what").value.trim());
});
$("follow-stop").addEventListener("click", () => {
  $("follow-stop").hidden = true;
  stop();
});
