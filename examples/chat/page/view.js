// Draws the store. Reads it and never changes it; all text of users goes in as text, never as markup.

import { clock, dayName, fullTime, startOfDay, t } from "./i18n.js";
import { ALL, directKey, roomKey } from "./store.js";

/** Messages of one sender closer together than this form a group. */
const GROUP_MS = 5 * 60_000;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** An element with classes and children; strings become text nodes. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

/** Sets the text only if it differs, so that screen readers are not told the same twice. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `container` match `rows` (each with a `key`), reusing elements: focus,
 * selection and scroll position survive.
 */
function reconcile(container, rows, create, update) {
  const wanted = new Set(rows.map(({ key }) => key));
  const have = new Map();
  for (const child of [...container.children]) {
    if (wanted.has(child.dataset.key)) have.set(child.dataset.key, child);
    else child.remove();
  }
  let cursor = container.firstElementChild;
  for (const row of rows) {
    let element = have.get(row.key);
    if (!element) {
      element = create(row);
      element.dataset.key = row.key;
    }
    update(element, row);
    if (element === cursor) cursor = cursor.nextElementSibling;
    else container.insertBefore(element, cursor);
  }
}

/** A stable hue per user: the same on every page, whatever the name. */
function hue(id) {
  let hash = 2166136261;
  for (const character of String(id)) hash = Math.imul(hash ^ character.codePointAt(0), 16777619) >>> 0;
  return hash % 360;
}

const characters = Intl.Segmenter ? new Intl.Segmenter() : null;

/** The characters of a word as people count them: a family of emoji is one. */
function letters(word) {
  return characters ? Array.from(characters.segment(word), ({ segment }) => segment) : Array.from(word);
}

/** Two letters of a name: first and last word, or the beginning of one. */
export function initials(name) {
  const words = name.trim().split(/[\s_.-]+/u).filter(Boolean);
  if (words.length === 0) return "?";
  const first = letters(words[0]);
  if (/\p{Script=Han}/u.test(words[0])) return first.slice(-2).join("");
  const second = words.length > 1 ? letters(words.at(-1))[0] : "";
  return (first[0] + second).toLocaleUpperCase();
}

/** Turns `element` into the face of a user. */
export function setAvatar(element, id, name) {
  element.style.setProperty("--hue", hue(id ?? name));
  setText(element, initials(name));
}

function avatar(id, name, online) {
  const face = make("span", "avatar");
  face.setAttribute("aria-hidden", "true");
  setAvatar(face, id, name);
  if (online === undefined) return face;
  return make("span", `face${online ? " is-online" : ""}`, face);
}

/** Text with its web addresses as links. */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/u).map((part, index) => {
    if (index % 2 === 0) return part;
    const link = make("a", "", part);
    link.href = part;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  });
}

export class View {
  #store;
  #drawn = null;
  /** Without a connection nobody's presence is known. */
  #isOpen = false;

  constructor(store) {
    this.#store = store;
    $("log").addEventListener("scroll", () => this.#offerJump());
  }

  /** What to call a user. */
  name(id) {
    if (!id) return t("system");
    return this.#store.nick(id) ?? t("guest", { id: id.slice(-4) });
  }

  draw() {
    const { me } = this.#store;
    $("welcome").hidden = Boolean(me.nick);
    $("shell").hidden = !me.nick;
    if (!me.nick) return;
    this.#drawMe();
    this.#drawLists();
    this.#drawPeople();
    this.#drawThread();
  }

  #drawMe() {
    const { me, unread } = this.#store;
    setAvatar($("me-avatar"), me.id ?? me.nick, me.nick);
    setText($("me-nick"), me.nick);
    setText($("me-id"), me.id ? `#${me.id}` : "");
    $("me-id").title = me.id ?? "";
    document.title = unread ? `(${unread}) imcore chat` : "imcore chat";
    this.#badge($("back-badge"), unread - (this.#store.current?.unread ?? 0));
  }

  // --- Connection -------------------------------------------------------------------------------

  drawConnection({ state, retryAt }) {
    this.#isOpen = state === "open";
    $("state").dataset.state = state;
    setText($("state-text"), t(`state.${state}`));
    const broken = ["waiting", "offline", "failed"].includes(state) || (state === "connecting" && !$("banner").hidden);
    $("banner").hidden = !broken;
    const seconds = state === "waiting" ? Math.ceil((retryAt - Date.now()) / 1000) : 0;
    const text = ["offline", "failed"].includes(state) ? `state.banner.${state}` : "state.banner";
    setText($("banner-text"), t(text, { n: Math.max(0, seconds) }));
    const dialog = $("kicked-dialog");
    if (state === "kicked" && !dialog.open) dialog.showModal();
    if (state !== "kicked" && dialog.open) dialog.close();
  }

  /** A passing note about something that did not work. */
  toast(text) {
    const toast = $("toast");
    toast.textContent = text;
    toast.classList.add("is-shown");
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => toast.classList.remove("is-shown"), 4000);
  }

  // --- Lists ------------------------------------------------------------------------------------

  #drawLists() {
    const store = this.#store;
    const all = store.conversations.get(ALL);
    this.#list("list-all", [{ key: ALL, label: t("all"), face: "horn", unread: all.unread, note: this.#known(store.online.size || "") }]);

    const mine = [...store.joined].sort((a, b) => a.localeCompare(b));
    this.#list("list-rooms", mine.map((name) => ({
      key: roomKey(name),
      label: name,
      face: "hash",
      unread: store.conversations.get(roomKey(name))?.unread ?? 0,
      note: this.#known(store.count(name) ?? ""),
      noteLabel: t("members", { n: store.count(name) ?? 0 }),
    })));
    const others = store.rooms.filter(({ name }) => !store.joined.has(name));
    this.#list("list-more", others.map(({ name, count }) => ({
      key: `join:${name}`,
      label: name,
      face: "hash",
      note: this.#known(count),
      noteLabel: t("members", { n: count }),
      action: t("rooms.join"),
    })));
    const direct = [...store.conversations.values()]
      .filter(({ kind }) => kind === "direct")
      .sort((a, b) => (b.messages.at(-1)?.time ?? Infinity) - (a.messages.at(-1)?.time ?? Infinity));
    this.#list("list-direct", direct.map(({ key, name: id, unread }) => ({
      key,
      label: this.name(id),
      person: id,
      online: this.#isOnline(id),
      unread,
    })));
    const written = new Set(direct.map(({ name }) => name));
    const reachable = [...store.online].filter((id) => id !== store.me.id && !written.has(id));
    this.#list("list-reachable", reachable.map((id) => ({
      key: directKey(id),
      label: this.name(id),
      person: id,
      online: this.#isOnline(id),
    })).sort((a, b) => a.label.localeCompare(b.label)));
    $("empty-rooms").hidden = mine.length > 0;
    $("head-more").hidden = others.length === 0;
    $("empty-direct").hidden = direct.length > 0;
  }

  #drawPeople() {
    const store = this.#store;
    const inRoom = store.current?.kind === "room";
    const members = inRoom ? store.members : [];
    const memberIds = new Set(members.map(({ id }) => id));
    const others = [...store.online].filter((id) => !memberIds.has(id));
    const person = (id, online) => ({ key: directKey(id), label: this.name(id), person: id, online: online && this.#isOpen, you: id === store.me.id });
    const byName = (a, b) => b.you - a.you || a.label.localeCompare(b.label);
    this.#list("list-members", members.map(({ id, online }) => person(id, online)).sort(byName));
    this.#list("list-online", others.map((id) => person(id, true)).sort(byName));
    setText($("members-head"), t("people.members", { n: members.length }));
    setText($("online-head"), t(inRoom ? "people.elsewhere" : "people.online", { n: others.length }));
    $("members-part").hidden = members.length === 0;
    $("online-part").hidden = others.length === 0;
    $("empty-people").hidden = [...store.online].some((id) => id !== store.me.id);
  }

  #isOnline(id) {
    return this.#isOpen && this.#store.online.has(id);
  }

  /** A count, as long as it is the present one. */
  #known(count) {
    return this.#isOpen ? count : "";
  }

  #list(id, rows) {
    reconcile($(id), rows, (row) => this.#createItem(row), (element, row) => this.#updateItem(element, row));
  }

  #createItem(row) {
    const face = row.person ? avatar(row.person, row.label, row.online) : make("span", "glyph", icon(row.face));
    const button = make("button", "item", face, make("span", "item-label"), make("span", "item-you"), make("span", "item-note"), make("span", "badge"), make("span", "item-action"));
    button.type = "button";
    button.dataset.open = row.key;
    return make("li", "", button);
  }

  #updateItem(element, row) {
    const button = element.firstElementChild;
    const [face, label, you, note, badge, action] = button.children;
    if (row.person) {
      face.classList.toggle("is-online", row.online);
      setAvatar(face.firstElementChild, row.person, row.label);
      button.title = row.you ? "" : t("people.write", { name: row.label });
      button.disabled = Boolean(row.you);
    }
    setText(label, row.label);
    // Apart, so that a long name does not push it behind the ellipsis.
    setText(you, row.you ? `(${t("you")})` : "");
    setText(note, row.unread ? "" : String(row.note ?? ""));
    note.title = row.noteLabel ?? "";
    setText(action, row.action ?? "");
    this.#badge(badge, row.unread ?? 0);
    const current = row.key === this.#store.active;
    button.classList.toggle("is-current", current);
    if (current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  #badge(element, count) {
    setText(element, count ? (count > 99 ? "99+" : String(count)) : "");
    if (count) element.setAttribute("aria-label", t("unread", { n: count }));
    else element.removeAttribute("aria-label");
  }

  // --- Thread -------------------------------------------------------------------------------------

  #drawThread() {
    const conversation = this.#store.current;
    const log = $("log");
    const switched = this.#drawn !== (conversation?.key ?? null);
    const atEnd = switched || this.#isAtEnd();
    const before = $("messages").childElementCount;
    if (switched) $("messages").replaceChildren();
    this.#drawHead(conversation);
    this.#drawBlank(conversation);
    const rows = conversation ? this.#rows(conversation) : [];
    reconcile($("messages"), rows, (row) => this.#createRow(row), (element, row) => this.#updateRow(element, row));
    this.#drawn = conversation?.key ?? null;
    const mineIsNew = rows.length !== before && rows.at(-1)?.mine && rows.at(-1)?.message?.state === "sending";
    if (atEnd || mineIsNew) log.scrollTop = log.scrollHeight;
    this.#offerJump();
  }

  toEnd() {
    $("log").scrollTop = $("log").scrollHeight;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = $("log");
    return scrollHeight - scrollTop - clientHeight < 60;
  }

  #offerJump() {
    $("jump").hidden = this.#isAtEnd();
  }

  #drawHead(conversation) {
    const store = this.#store;
    const { kind, name } = conversation ?? {};
    $("thread").classList.toggle("is-empty", !conversation);
    $("leave").hidden = kind !== "room";
    const face = $("thread-face");
    const key = conversation?.key ?? "";
    if (face.dataset.key !== key || kind === "direct") {
      face.dataset.key = key;
      face.replaceChildren(...this.#faceOf(conversation));
    }
    const title = { room: name, direct: kind === "direct" ? this.name(name) : "", all: t("all") }[kind] ?? "";
    setText($("thread-name"), title);
    const count = kind === "room" && this.#isOpen ? store.count(name) : null;
    const sub = {
      room: count === null ? "" : t("members", { n: count }),
      direct: this.#isOpen ? t(store.online.has(name) ? "direct.online" : "direct.offline") : "",
      all: t("all.sub"),
    };
    setText($("thread-sub"), sub[kind] ?? "");
    const text = $("text");
    text.placeholder = kind ? t(`${kind}.placeholder`, { name: title }) : "";
    text.setAttribute("aria-label", text.placeholder);
  }

  #faceOf(conversation) {
    if (!conversation) return [];
    const { kind, name } = conversation;
    if (kind === "direct") return [avatar(name, this.name(name), this.#isOnline(name))];
    return [make("span", "glyph", icon(kind === "room" ? "hash" : "horn"))];
  }

  #drawBlank(conversation) {
    // Notices alone leave a room as empty as none.
    const empty = !conversation?.messages.some(({ type }) => type === "text");
    $("blank").hidden = !empty;
    if (!empty) return;
    const kind = conversation?.kind;
    const name = kind === "direct" ? this.name(conversation.name) : conversation?.name;
    $("blank-face").replaceChildren(...this.#faceOf(conversation));
    setText($("blank-title"), kind ? t(`${kind}.blank`, { name }) : t("none.title"));
    setText($("blank-text"), kind ? t(`${kind}.blank.text`) : t("none.text"));
  }

  /** The messages as rows: day lines, notices, and messages in groups. */
  #rows({ kind, messages, firstUnread }) {
    const rows = [];
    let previous = null;
    const newestOfMine = messages.findLastIndex(({ sender, type }) => sender === this.#store.me.id && type === "text");
    messages.forEach((message, index) => {
      const newDay = !previous || startOfDay(previous.time) !== startOfDay(message.time);
      if (newDay) rows.push({ key: `day:${message.id}`, line: dayName(message.time) });
      const unread = message.id === firstUnread;
      if (unread) rows.push({ key: `new:${message.id}`, line: t("thread.new"), isNew: true });
      const next = messages[index + 1];
      const joins = (a, b) => a?.type === "text" && b?.type === "text" && a.sender === b.sender && b.time - a.time < GROUP_MS
        && startOfDay(a.time) === startOfDay(b.time);
      rows.push({
        key: `message:${message.id}`,
        message,
        mine: message.sender === this.#store.me.id,
        first: unread || !joins(previous, message),
        last: !next || next.id === firstUnread || !joins(message, next),
        // Receipts are shown where they matter: on my newest message, and wherever something failed.
        showState: ["failed", "offline", "sending"].includes(message.state) || index === newestOfMine,
        direct: kind === "direct",
      });
      previous = message;
    });
    return rows;
  }

  #createRow(row) {
    if (row.line !== undefined) return make("li", row.isNew ? "line is-new" : "line", make("span", "", row.line));
    const { message } = row;
    if (message.type !== "text") return make("li", "notice", make("span", ""));
    const bubble = make("div", "bubble", ...linked(message.content));
    bubble.title = fullTime(message.time);
    const head = make("div", "message-head", make("strong", ""), make("time", "", clock(message.time)));
    head.lastElementChild.dateTime = new Date(message.time).toISOString();
    const name = this.name(message.sender);
    return make("li", "message", avatar(message.sender, name), make("div", "stack", head, bubble, make("div", "message-state")));
  }

  #updateRow(element, row) {
    if (row.line !== undefined) return setText(element.firstElementChild, row.line);
    const { message, mine } = row;
    if (message.type !== "text") return setText(element.firstElementChild, this.#notice(message, mine));
    element.className = "message";
    element.classList.toggle("is-mine", mine);
    element.classList.toggle("is-first", row.first);
    element.classList.toggle("is-last", row.last);
    const [head, bubble, state] = element.lastElementChild.children;
    const name = message.nick ?? this.name(message.sender);
    setText(head.firstElementChild, mine ? t("you") : name);
    setText(head.lastElementChild, clock(message.time));
    bubble.title = fullTime(message.time);
    setAvatar(element.firstElementChild, message.sender, name);
    this.#drawState(state, row);
  }

  #drawState(element, { message, mine, showState, direct }) {
    const shown = mine && showState && (direct || message.state !== "sent") ? message.state : "";
    const language = document.documentElement.lang;
    if (element.dataset.state === shown && element.lang === language) return;
    element.dataset.state = shown;
    element.lang = language;
    element.replaceChildren();
    if (!shown) return;
    const glyph = { sending: "clock", sent: "sent", delivered: "delivered", offline: "offline", failed: "offline" }[shown];
    element.append(icon(glyph), make("span", "", t(`message.${shown}`)));
    if (shown === "failed") {
      const retry = make("button", "link", t("message.retry"));
      retry.type = "button";
      retry.dataset.resend = message.id;
      element.append(retry);
    }
  }

  #notice({ type, sender, nick, oldnick, content }, mine) {
    const name = nick ?? this.name(sender);
    if (type === "welcome") return mine ? t("notice.welcome.you") : t("notice.welcome", { name });
    if (type === "bye") return t("notice.bye", { name });
    if (type === "changenick") return t("notice.changenick", { old: oldnick ?? name, name });
    return content;
  }
}
