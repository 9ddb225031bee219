// Ties store, view and connection together: what happens when something is clicked or arrives.

import { call, decode } from "./api.js";
import { applyLanguage, onLanguage, switchLanguage, t } from "./i18n.js";
import { ImClient } from "./im.js";
import { ALL, roomKey, Store } from "./store.js";
import { setAvatar, View } from "./view.js";

/** Where newcomers meet. */
const FIRST_ROOM = "lobby";
const LAST_NICK = "imcore.nick";
/** Hints reach all pages at once; the pages' questions should not reach the web API at once. */
const REFRESH_SPREAD_MS = 250;
/** A link that has brought nothing for so long is checked: a dead one looks just like a quiet one. */
const SILENCE_MS = 30_000;

const $ = (id) => document.getElementById(id);
const store = new Store();
const view = new View(store);
const client = new ImClient({
  getUrl,
  onMessage,
  // All that this page shows besides messages.
  onResync: refresh,
  rejoin,
  rooms: store.joined,
  decode,
  // For nodes that cannot resume.
  check,
  silence: SILENCE_MS,
});
let drawDue = false;
let refreshTimer = 0;
/** Joins the first room once per sign-in, not again after it was left. */
let isNewcomer = false;
/** Ends when everything asked for so far is done. */
let lastInTurn = Promise.resolve();

function draw() {
  if (drawDue) return;
  drawDue = true;
  queueMicrotask(() => {
    drawDue = false;
    view.draw();
  });
}

/** Runs what changes something after what was asked for before: requests side by side overtake each other. */
function inTurn(work) {
  const turn = lastInTurn.then(work);
  lastInTurn = turn.catch(() => {});
  return turn;
}

/** Calls a route as the user of this page. */
function act(route, fields = {}, signal = undefined) {
  const { id, session } = store.me;
  return call(route, { websocketId: id, session, ...fields }, signal);
}

/** Runs a request that a click asked for; a failure is told, not thrown. */
async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    view.toast(error.status === 0 ? t("error.unreachable") : t("error.action", { reason: error.message }));
    return false;
  }
}

// --- Connection ---------------------------------------------------------------------------------

function enter(nick) {
  localStorage.setItem(LAST_NICK, nick);
  store.setMe({ nick });
  client.connect();
}

function signOut() {
  client.close();
  store.reset();
  store.save();
  closeDialogs();
  setPane("list");
  prepareWelcome();
}

/** Connects as whoever this page is now; the web API gives an id to those who have none. */
async function getUrl({ signal }) {
  const { id, session, nick } = store.me;
  let ticket;
  try {
    ticket = await call("pre-connect", { websocketId: id, session, nick }, signal);
  } catch (error) {
    // An id that the web API does not take, or not any more, will never do; it gives a new one.
    if (!id || ![400, 403].includes(error.status)) throw error;
    ticket = await call("pre-connect", { nick }, signal);
  }
  if (!signal.aborted) store.setMe({ id: String(ticket.websocketId), session: ticket.session });
  return ticket.server;
}

/**
 * The server forgets the rooms of a client whose last connection ends. The web API knows them; what this page
 * remembers counts only if the web API was restarted as well.
 */
function rejoin(_rooms, { signal }) {
  return inTurn(async () => {
    signal.throwIfAborted();
    const { channels } = await act("rejoin", { channels: JSON.stringify([...store.joined]) }, signal);
    store.setJoined(channels);
  });
}

/** Has the web API send this page a message: its arrival proves the link. */
async function check({ signal }) {
  await act("check", {}, signal);
}

client.addEventListener("state", () => {
  view.drawConnection(client);
  draw();
});
client.addEventListener("open", () => welcome().then(scheduleRefresh));
client.addEventListener("rejoined", refresh);
client.addEventListener("receipt", ({ detail: { content, to, status } }) => {
  store.settle(`direct:${to}`, content?.id, ["sent", "acknowledged"].includes(status) ? "delivered" : "offline");
});

/** Each message once and in order, also those that were sent while this page was away. */
function onMessage(message) {
  // Other programs may push what is not meant for this page.
  if (typeof message !== "object" || message === null) return;
  if (message.type === "changed") scheduleRefresh();
  else store.receive(message, isSeen);
}

async function welcome() {
  if (isNewcomer && store.joined.size === 0) {
    isNewcomer = false;
    await join(FIRST_ROOM, { openIt: !isNarrow() });
  }
}

function scheduleRefresh() {
  if (refreshTimer) return;
  refreshTimer = setTimeout(() => {
    refreshTimer = 0;
    refresh();
  }, Math.random() * REFRESH_SPREAD_MS);
}

/** Asks for rooms, people and the members of the open room. A failure is made up for by the next one. */
async function refresh() {
  const open = store.current;
  const [rooms, people, members] = await Promise.allSettled([
    call("get-channels"),
    call("get-people"),
    open?.kind === "room" ? call("get-members", { channel: open.name }) : null,
  ]);
  if (rooms.value) store.setRooms(rooms.value.channels);
  if (people.value) store.setPeople(people.value.people);
  if (members.value && store.active === open.key) store.setMembers(members.value.members);
}

// --- Rooms and conversations ----------------------------------------------------------------------

async function join(channel, { openIt = true } = {}) {
  const isNew = !store.joined.has(channel);
  const done = await attempt(async () => {
    if (!isNew) return;
    await inTurn(async () => {
      await act("subscr-channel", { channel });
      store.join(channel);
      await notify(channel, { type: "welcome" });
    });
  });
  if (done && openIt) open(roomKey(channel));
}

async function leave() {
  const room = store.current;
  if (room?.kind !== "room") return;
  await attempt(() => inTurn(async () => {
    // Words for pages that do not know this type; ours shows its own.
    await notify(room.name, { type: "bye", content: t("notice.bye", { name: store.me.nick }) });
    await act("leave-channel", { channel: room.name });
    store.leave(room.name);
    backToList();
    refresh();
  }));
}

/** Tells a room what I did. */
async function notify(channel, msg) {
  const message = JSON.stringify({ senderNick: store.me.nick, msg });
  const answer = await act("send-channelmsg", { channel, message });
  store.receive(answer.message, isSeen);
}

function open(key) {
  store.open(key);
  setPane("thread");
  togglePeople(false);
  refresh();
  // On a phone a focused field would raise the keyboard over what one came to read.
  $(isNarrow() ? "log" : "text").focus();
}

/** Whether a message in this conversation is before the user's eyes. */
function isSeen(key) {
  return key === store.active && !document.hidden && (!isNarrow() || document.body.dataset.pane === "thread");
}

// --- Messages -------------------------------------------------------------------------------------

async function send(key, message) {
  store.settle(key, message.id, "sending");
  try {
    await inTurn(() => post(key, message));
    store.settle(key, message.id, "sent");
  } catch (error) {
    store.settle(key, message.id, "failed");
    if (error.status !== 0) view.toast(t("error.action", { reason: error.message }));
  }
}

function post(key, { id, content }) {
  const { kind, name } = store.conversations.get(key);
  // As JSON even though it is plain text: otherwise a text that looks like JSON would be taken for it.
  const message = JSON.stringify({ senderNick: store.me.nick, msg: { type: "text", content } });
  const common = { messageId: id, message };
  if (kind === "room") return act("send-channelmsg", { ...common, channel: name });
  if (kind === ALL) return act("send-broadcast", common);
  return act("send-msg", { ...common, senderWebsocketId: store.me.id, receiveWebsocketId: name, isReceipt: true });
}

function sendComposed() {
  const text = $("text");
  const content = text.value.trim();
  if (!content || !store.active) return;
  text.value = "";
  fitComposer();
  send(store.active, store.draft(store.active, content));
}

function fitComposer() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

// --- Panes and dialogs ----------------------------------------------------------------------------

function isNarrow() {
  return matchMedia("(max-width: 760px)").matches;
}

/** Shows one pane of a phone. The thread is a step forward, so that the phone's back button works. */
function setPane(pane) {
  if (pane === "thread" && isNarrow() && history.state?.pane !== "thread") history.pushState({ pane }, "");
  document.body.dataset.pane = pane;
}

function backToList() {
  if (history.state?.pane === "thread") history.back();
  else setPane("list");
}

function togglePeople(shown = !arePeopleShown()) {
  if (shown === arePeopleShown()) return;
  document.body.classList.toggle("shows-people", shown);
  const toggle = document.querySelector(".people-toggle");
  toggle.setAttribute("aria-expanded", shown);
  (shown ? document.querySelector(".people-close") : toggle).focus();
}

function arePeopleShown() {
  return document.body.classList.contains("shows-people");
}

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

function openDialog(id, value) {
  const input = $(id).querySelector("input");
  input.value = value;
  $(id).showModal();
  input.select();
}

function prepareWelcome() {
  $("nick").value = localStorage.getItem(LAST_NICK) ?? "";
  showFace();
  // At once: what is hidden takes no focus.
  view.draw();
  if (!store.me.nick) $("nick").focus();
}

function showFace() {
  const name = $("nick").value;
  setAvatar($("nick-avatar"), name, name);
}

const ACTIONS = {
  "new-room": () => openDialog("room-dialog", ""),
  rename: () => openDialog("rename-dialog", store.me.nick),
  cancel: closeDialogs,
  language: switchLanguage,
  "sign-out": signOut,
  leave,
  back: backToList,
  people: () => togglePeople(),
  retry: () => client.connect(),
  reconnect: () => client.connect(),
  jump: () => view.toEnd(),
};

function onClick(event) {
  const target = event.target.closest("[data-action], [data-open], [data-resend]");
  if (!target) return;
  const { action, open: key, resend } = target.dataset;
  if (action) ACTIONS[action]();
  else if (resend) send(store.active, store.redraft(store.active, resend));
  else if (key.startsWith("join:")) join(key.slice("join:".length));
  else open(key.startsWith("direct:") ? store.startDirect(key.slice("direct:".length)) : key);
}

/** A form of a dialog: `use` gets the trimmed text if there is any. */
function onText(form, input, use) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $(input).value.trim();
    if (!text) return;
    closeDialogs();
    use(text);
  });
}

function start() {
  applyLanguage();
  document.addEventListener("click", onClick);
  onText("enter", "nick", (nick) => {
    isNewcomer = true;
    enter(nick);
  });
  onText("room-form", "room-name", (name) => join(name));
  onText("rename-form", "rename-nick", enter);
  $("nick").addEventListener("input", showFace);
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    sendComposed();
  });
  $("text").addEventListener("input", fitComposer);
  $("text").addEventListener("keydown", (event) => {
    // Enter that ends the composition of Chinese characters is not meant to send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    sendComposed();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") togglePeople(false);
  });
  // Escape must not close it: the page would look connected.
  $("kicked-dialog").addEventListener("cancel", (event) => event.preventDefault());
  addEventListener("popstate", ({ state }) => {
    togglePeople(false);
    setPane(state?.pane === "thread" && store.active ? "thread" : "list");
  });
  addEventListener("pagehide", () => store.save());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    if (store.active && isSeen(store.active)) store.markRead(store.active);
  });
  setInterval(() => client.state === "waiting" && view.drawConnection(client), 500);

  store.onChange(draw);
  onLanguage(() => {
    view.drawConnection(client);
    draw();
  });
  view.drawConnection(client);
  prepareWelcome();
  if (store.me.nick) {
    setPane(store.active ? "thread" : "list");
    client.connect();
  }
}

start();
