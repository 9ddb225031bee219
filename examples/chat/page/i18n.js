// The page's words in English and Chinese, and how times and counts are written. Touches the DOM only
// to fill in elements that carry data-t attributes.

const WORDS = {
  en: {
    "welcome.title": "imcore chat",
    "welcome.lead": "Pick a name and walk in. No account, no history, just people who are here now.",
    "welcome.enter": "Start chatting",
    "welcome.hint": "Open this page in a second tab to be a second person.",
    "welcome.demo": "A demo: it has no login, so anybody may come in under any name, and it keeps nothing.",
    "nick.label": "Your nickname",
    "nick.placeholder": "How others see you",
    "nick.change": "Change nickname",
    "nick.change.lead": "You reconnect under the new name and stay in your rooms.",
    "language.other": "中文",
    "language.other.short": "中",
    "language.other.code": "zh",
    "sidebar.label": "Conversations",
    all: "Everyone",
    "all.sub": "Reaches all who are online",
    "all.blank": "An announcement to everybody",
    "all.blank.text": "What you write here reaches every connection, whatever room it is in.",
    "all.placeholder": "Message everyone who is online",
    rooms: "Rooms",
    "rooms.more": "More rooms",
    "rooms.new": "Create or join a room",
    "rooms.new.lead": "If the room exists you join it; if not, you open it.",
    "rooms.name": "Room name",
    "rooms.name.placeholder": "lobby",
    "rooms.enter": "Enter room",
    "rooms.empty": "You are in no room. Join one below or open your own.",
    "rooms.join": "Join",
    "rooms.leave": "Leave room",
    "room.blank": ({ name }) => `Welcome to ${name}`,
    "room.blank.text": "Nothing has been said since you came in. Say hello.",
    "room.placeholder": ({ name }) => `Message ${name}`,
    "none.title": "No conversation open",
    "none.text": "Choose a room on the left, or someone who is online.",
    direct: "Direct messages",
    "direct.empty": "Choose someone who is online to write to.",
    "direct.reachable": "Online",
    "direct.blank": ({ name }) => `You and ${name}`,
    "direct.blank.text": "Private messages show whether they arrived.",
    "direct.placeholder": ({ name }) => `Write to ${name}`,
    "direct.online": "Online now",
    "direct.offline": "Offline: messages will not arrive",
    people: "People",
    "people.members": ({ n }) => `In this room · ${n}`,
    "people.online": ({ n }) => `Online · ${n}`,
    "people.elsewhere": ({ n }) => `Elsewhere · ${n}`,
    "people.empty": "Nobody else is here yet.",
    "people.write": ({ name }) => `Write to ${name}`,
    members: ({ n }) => (n === 1 ? "1 member" : `${n} members`),
    unread: ({ n }) => `${n} unread`,
    you: "you",
    guest: ({ id }) => `Guest ${id}`,
    system: "System",
    "notice.welcome": ({ name }) => `${name} joined`,
    "notice.welcome.you": "You joined",
    "notice.bye": ({ name }) => `${name} left`,
    "notice.changenick": ({ old, name }) => `${old} is now ${name}`,
    "thread.log": "Messages",
    "thread.new": "New",
    "thread.jump": "Newest messages ↓",
    today: "Today",
    yesterday: "Yesterday",
    send: "Send",
    save: "Save",
    cancel: "Cancel",
    close: "Close",
    back: "Back to conversations",
    "sign-out": "Sign out",
    "message.sending": "Sending",
    "message.sent": "Sent",
    "message.delivered": "Delivered",
    "message.offline": "User offline, not delivered",
    "message.failed": "Not sent",
    "message.retry": "Try again",
    "state.closed": "Offline",
    "state.connecting": "Connecting",
    "state.open": "Online",
    "state.offline": "No network",
    "state.waiting": "Reconnecting",
    "state.failed": "Disconnected",
    "state.kicked": "Signed out",
    "state.banner": ({ n }) => (n > 0 ? `Connection lost. Trying again in ${n} s.` : "Connection lost. Reconnecting…"),
    "state.banner.offline": "No network. This page reconnects as soon as there is one.",
    "state.banner.failed": "The service ended the connection and does not want this page back.",
    "state.retry": "Try now",
    "kicked.title": "You were disconnected",
    "kicked.lead": "The service ended all your connections, so this page does not reconnect by itself.",
    "kicked.reconnect": "Reconnect",
    "error.unreachable": "The service cannot be reached.",
    "error.action": ({ reason }) => `That did not work: ${reason}`,
  },
  zh: {
    "welcome.title": "imcore 聊天",
    "welcome.lead": "起个名字就能进来。无需注册，不留记录，只有此刻在线的人。",
    "welcome.enter": "开始聊天",
    "welcome.hint": "再开一个标签页，就是另一个人。",
    "welcome.demo": "这是演示：没有登录，任何人都可以用任何名字进来，也不保存任何内容。",
    "nick.label": "你的昵称",
    "nick.placeholder": "别人怎么称呼你",
    "nick.change": "修改昵称",
    "nick.change.lead": "将以新昵称重新连接，并留在原来的聊天室。",
    "language.other": "English",
    "language.other.short": "EN",
    "language.other.code": "en",
    "sidebar.label": "会话",
    all: "所有人",
    "all.sub": "发送给所有在线用户",
    "all.blank": "向所有人广播",
    "all.blank.text": "这里的消息会送达每一个在线连接，无论对方在哪个聊天室。",
    "all.placeholder": "发送给所有在线用户",
    rooms: "聊天室",
    "rooms.more": "更多聊天室",
    "rooms.new": "创建或加入聊天室",
    "rooms.new.lead": "聊天室存在则直接加入，不存在则创建。",
    "rooms.name": "聊天室名称",
    "rooms.name.placeholder": "大厅",
    "rooms.enter": "进入",
    "rooms.empty": "你还没有加入聊天室。加入一个，或自己创建。",
    "rooms.join": "加入",
    "rooms.leave": "离开聊天室",
    "room.blank": ({ name }) => `欢迎来到 ${name}`,
    "room.blank.text": "你进来之后还没有人说话，打个招呼吧。",
    "room.placeholder": ({ name }) => `在 ${name} 中发言`,
    "none.title": "没有打开的会话",
    "none.text": "从左侧选择聊天室，或选择一位在线用户。",
    direct: "私聊",
    "direct.empty": "选择一位在线用户开始私聊。",
    "direct.reachable": "在线",
    "direct.blank": ({ name }) => `你和 ${name}`,
    "direct.blank.text": "私聊消息会显示是否送达。",
    "direct.placeholder": ({ name }) => `发消息给 ${name}`,
    "direct.online": "在线",
    "direct.offline": "不在线，消息无法送达",
    people: "成员",
    "people.members": ({ n }) => `本聊天室 · ${n}`,
    "people.online": ({ n }) => `在线 · ${n}`,
    "people.elsewhere": ({ n }) => `其他在线 · ${n}`,
    "people.empty": "这里还没有其他人。",
    "people.write": ({ name }) => `发消息给 ${name}`,
    members: ({ n }) => `${n} 人`,
    unread: ({ n }) => `${n} 条未读`,
    you: "你",
    guest: ({ id }) => `访客 ${id}`,
    system: "系统",
    "notice.welcome": ({ name }) => `${name} 加入了聊天室`,
    "notice.welcome.you": "你加入了聊天室",
    "notice.bye": ({ name }) => `${name} 离开了聊天室`,
    "notice.changenick": ({ old, name }) => `${old} 改名为 ${name}`,
    "thread.log": "消息",
    "thread.new": "新消息",
    "thread.jump": "最新消息 ↓",
    today: "今天",
    yesterday: "昨天",
    send: "发送",
    save: "保存",
    cancel: "取消",
    close: "关闭",
    back: "返回会话列表",
    "sign-out": "退出",
    "message.sending": "发送中",
    "message.sent": "已发送",
    "message.delivered": "已送达",
    "message.offline": "用户不在线，未送达",
    "message.failed": "发送失败",
    "message.retry": "重试",
    "state.closed": "离线",
    "state.connecting": "连接中",
    "state.open": "在线",
    "state.offline": "无网络",
    "state.waiting": "重新连接中",
    "state.failed": "已断开",
    "state.kicked": "已下线",
    "state.banner": ({ n }) => (n > 0 ? `连接已断开，${n} 秒后重试。` : "连接已断开，正在重新连接…"),
    "state.banner.offline": "当前无网络，网络恢复后将自动重新连接。",
    "state.banner.failed": "服务端结束了连接，且不希望本页重新连接。",
    "state.retry": "立即重试",
    "kicked.title": "你已被下线",
    "kicked.lead": "服务端断开了你的所有连接，本页不会自动重连。",
    "kicked.reconnect": "重新连接",
    "error.unreachable": "无法连接到服务。",
    "error.action": ({ reason }) => `操作失败：${reason}`,
  },
};
const REMEMBERED = "imcore.language";
const listeners = new Set();
let language = localStorage.getItem(REMEMBERED) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
if (!WORDS[language]) language = "en";
let formats = {};

/// The word for `key`, with `values` filled in.
export function t(key, values = {}) {
  const word = WORDS[language][key] ?? key;
  return typeof word === "function" ? word(values) : word;
}

/// Switches to the other language and remembers it.
export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(REMEMBERED, language);
  applyLanguage();
  for (const listener of listeners) listener();
}

/// Calls `listener` after each switch.
export function onLanguage(listener) {
  listeners.add(listener);
}

/// Fills in all elements that name their words.
export function applyLanguage() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  formats = {};
  const places = { t: "textContent", tPlaceholder: "placeholder", tTitle: "title", tLang: "lang", tLabel: "ariaLabel" };
  for (const [name, property] of Object.entries(places)) {
    const attribute = "data-" + name.replace(/[A-Z]/g, (letter) => "-" + letter.toLowerCase());
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      if (property === "ariaLabel") element.setAttribute("aria-label", t(element.dataset[name]));
      else element[property] = t(element.dataset[name]);
    }
  }
}

function format(name, options) {
  // The user's own variant of the language, if it is one: it decides between 15:45 and 3:45 PM.
  const variant = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language));
  return (formats[name] ??= new Intl.DateTimeFormat(variant ?? document.documentElement.lang, options));
}

/// Hours and minutes.
export function clock(time) {
  return format("clock", { hour: "numeric", minute: "2-digit" }).format(time);
}

/// Date and time in full, for a tooltip.
export function fullTime(time) {
  return format("full", { dateStyle: "full", timeStyle: "medium" }).format(time);
}

/// The day as people say it.
export function dayName(time) {
  const days = Math.round((startOfDay(Date.now()) - startOfDay(time)) / 86_400_000);
  if (days === 0) return t("today");
  if (days === 1) return t("yesterday");
  return format("day", { weekday: "long", month: "long", day: "numeric" }).format(time);
}

/// The midnight before `time`: equal for times of one day.
export function startOfDay(time) {
  return new Date(time).setHours(0, 0, 0, 0);
}
