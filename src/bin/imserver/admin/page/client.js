// One client: looked up on demand, because a look-up walks through all connections of its node; and what
// can be done with a client or a channel.

import { act, ask, choice } from "./ask.js";
import { follow } from "./follow.js";
import { clock, many, t } from "./language.js";
import { $, announce, button, el, put } from "./show.js";

// After a kick the client is looked up again until it is gone, at most so often and so far apart.
const LOOKS_AFTER_KICK = [400, 800, 1500, 3000, 5000];
let looked = 0;

/** Looks a client up and shows it; the answer, or nothing if it failed or another was asked for meanwhile. */
export async function lookUp(id) {
  const own = ++looked;
  $("look-up").querySelector("button").disabled = true;
  try {
    const client = await ask(`clients/${encodeURIComponent(id)}`);
    if (own !== looked) return undefined;
    $("found").replaceChildren(...card(client));
    put("client-age", t("client.as-of", { when: clock(Date.now()) }));
    return client;
  } catch (error) {
    if (own === looked) {
      $("found").replaceChildren(el("p", "bad", error.message));
      put("client-age", "");
    }
    return undefined;
  } finally {
    if (own === looked) $("look-up").querySelector("button").disabled = false;
  }
}

/** Shows who is in a channel. */
export async function lookInto(name) {
  const own = ++looked;
  try {
    const channel = await ask(`channels/${encodeURIComponent(name)}`);
    if (own !== looked) return;
    const { count, members } = channel;
    const chips = members.map(({ client, online }) => {
      const link = el("a", online ? "" : "zero", online ? client : t("member.offline", { client }));
      link.href = `#${new URLSearchParams({ client })}`;
      return el("li", "", link);
    });
    const who = el("div", "who", el("b", "", name), el("span", "pill", t("channel.pill")),
      el("div", "buttons", button(t("follow.do"), "plain", () => follow("channel", name)), button(t("message.send"), "plain", () => write({ channel: name }))));
    $("found").replaceChildren(who, heading(count, members.length, "member"), el("ul", "chips", ...chips));
    put("client-age", t("client.as-of", { when: clock(Date.now()) }));
  } catch (error) {
    if (own === looked) $("found").replaceChildren(el("p", "bad", error.message));
  }
}

function card(client) {
  const { connections, channels } = client;
  const count = client.connections_count;
  const actions = el("div", "buttons", button(t("client.refresh"), "plain", () => lookUp(client.client)),
    button(t("follow.do"), "plain", () => follow("client", client.client)), button(t("message.send"), "plain", () => write({ client: client.client })));
  if (client.online) actions.append(button(t("client.kick"), "danger", () => kick(client)));
  const who = el("div", "who", el("b", "", client.client),
    el("span", `pill ${client.online ? "good" : ""}`, t(client.online ? "client.online" : "client.offline")),
    el("span", "dim", t("client.lives", { server: client.server })), actions);
  const parts = [who];
  if (count) {
    const body = el("tbody", "", ...connections.map(({ number, meta, away }) =>
      el("tr", "", el("td", "", t("client.connection", { number })), el("td", away ? "warn" : "", away ? t("client.away") : ""),
        el("td", meta == null ? "zero" : "", el("div", "meta", meta ?? t("client.no-note"))))));
    parts.push(heading(count, connections.length, "connection"), el("table", "devices", body));
    if (connections.some(({ away }) => away == null)) parts.push(el("p", "dim", t("client.where-away", { server: client.server })));
  } else if (client.online) {
    parts.push(el("p", "dim", t("client.elsewhere")));
  }
  if (client.channels_count) {
    const chips = el("ul", "chips", ...channels.map((channel) => el("li", "", channel)));
    parts.push(heading(client.channels_count, channels.length, "channel"), chips);
  } else {
    parts.push(el("h3", "", t("client.no-channel")));
  }
  return parts;
}

const heading = (count, shown, word) => el("h3", "", shown < count ? t("some.of", { shown, all: many(count, word) }) : many(count, word));

async function kick({ client, connections_count: count }) {
  put("ask-kick-title", t("client.kick.title", { client }));
  put("ask-kick-what", t("client.kick.what", { connections: count ? many(count, "connection") : "" }));
  if (await choice("ask-kick") !== "kick" || !await act("kick", JSON.stringify({ client }), t("client.kicked", { client }))) return;
  let own = looked;
  for (const pause of LOOKS_AFTER_KICK) {
    await new Promise((next) => setTimeout(next, pause));
    // Another client may be looked at by now.
    if (own !== looked) return;
    const now = await lookUp(client);
    if (!now?.online) return;
    own = looked;
  }
}

/** Asks for a message to a client or a channel, and sends it. */
export async function write(to) {
  const kind = to.client ? "client" : "channel";
  put("ask-message-title", t(`message.to.${kind}`, to));
  $("message").value ||= JSON.stringify({ text: t("message.test") });
  if (await choice("ask-message") !== "send") return;
  // JSON goes out letter by letter: a large number would not survive as one of the browser's.
  const text = $("message").value;
  const message = isJson(text) ? text : JSON.stringify(text);
  const sent = await act("send", `${JSON.stringify(to).slice(0, -1)},"message":${message}}`, t(`message.sent.${kind}`, to));
  if (sent && sent.online === false) announce(t("message.nowhere", to), true);
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
