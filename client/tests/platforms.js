// Platforms of apps in the test's hands, as their documents describe them: WeChat's `wx`, and what React Native has.

/** At most so many sockets at a time. */
const MOST_SOCKETS = 5;

/** `wx`: a socket is a task, and one that is not open yet cannot be closed. */
export class Program {
  /** @type {Program} */
  static last;
  /** What tasks say of the answer's headers besides the sub-protocol; undefined: they show none. */
  headers = { Upgrade: "websocket" };
  /** Tasks that are there. */
  tasks = new Set();
  /** Requests of the web API. */
  requests = [];
  storage = new Map();
  /** @type {Map<string, Set<(event: any) => void>>} */
  listeners = new Map();
  #Socket;

  constructor(Socket) {
    this.#Socket = Socket;
    for (const type of ["AppShow", "AppHide", "NetworkStatusChange"]) {
      this.listeners.set(type, new Set());
      this[`on${type}`] = (listener) => this.listeners.get(type).add(listener);
      this[`off${type}`] = (listener) => this.listeners.get(type).delete(listener);
    }
  }

  tell(type, event) {
    for (const listener of [...this.listeners.get(type)]) listener(event);
  }

  network(networkType) {
    this.tell("NetworkStatusChange", { isConnected: networkType !== "none", networkType });
  }

  connectSocket({ url, protocols, fail }) {
    if (this.tasks.size >= MOST_SOCKETS) {
      fail({ errMsg: "connectSocket:fail exceed max task count" });
      return undefined;
    }
    const socket = new this.#Socket(url, protocols);
    const task = new Task(socket, this);
    task.fail = fail;
    this.tasks.add(task);
    return task;
  }

  request(options) {
    const task = { options, isAborted: false, abort: () => { task.isAborted = true; } };
    this.requests.push(task);
    return task;
  }

  getNetworkType({ success }) {
    success({ networkType: "wifi" });
  }

  getStorageSync(key) {
    return this.storage.get(key) ?? "";
  }

  setStorageSync(key, value) {
    this.storage.set(key, value);
  }

  removeStorageSync(key) {
    this.storage.delete(key);
  }
}

class Task {
  #socket;
  #program;
  #isOpen = false;

  constructor(socket, program) {
    this.#socket = socket;
    this.#program = program;
  }

  onOpen(listener) {
    this.#socket.onopen = () => {
      this.#isOpen = true;
      const { headers } = this.#program;
      const { protocol } = this.#socket;
      listener({ header: headers && { ...headers, ...(protocol && { "sec-websocket-Protocol": protocol }) } });
    };
  }

  onMessage(listener) {
    this.#socket.onmessage = ({ data }) => listener({ data });
  }

  onError(listener) {
    this.#socket.onerror = () => listener({ errMsg: "" });
  }

  onClose(listener) {
    this.#socket.onclose = ({ code, reason }) => {
      this.#program.tasks.delete(this);
      listener({ code, reason });
    };
  }

  send({ data }) {
    this.#socket.send?.(data);
  }

  close({ code, reason }) {
    if (!this.#isOpen) return;
    this.#program.tasks.delete(this);
    this.#socket.close(code, reason);
  }
}

/** What an app imports: `AppState` and `NetInfo`. */
export class ReactNative {
  /** @type {ReactNative} */
  static last;
  /** Who listens. */
  states = new Set();
  networks = new Set();
  #state = { isConnected: null, type: "unknown" };

  AppState = {
    currentState: "active",
    addEventListener: (_, listener) => {
      this.states.add(listener);
      return { remove: () => this.states.delete(listener) };
    },
  };

  NetInfo = {
    addEventListener: (listener) => {
      this.networks.add(listener);
      listener(this.#state);
      return () => this.networks.delete(listener);
    },
  };

  turn(state) {
    this.AppState.currentState = state;
    for (const listener of [...this.states]) listener(state);
  }

  network(type) {
    this.#state = { isConnected: type !== "none", type };
    for (const listener of [...this.networks]) listener(this.#state);
  }
}
