// The sockets of mini programs, `SocketTask`, as a WebSocket class: so they end exactly once like all others (socket.js).
//
// Goes by the platforms' documents (developers.weixin.qq.com, uniapp.dcloud.net.cn). What these leave open is taken as either way:
// a task that fails tells `fail` or `onError`, with an `onClose` behind it or without; one that was let go of may still open.

/** @typedef {import("../miniprogram.d.ts").MiniProgram} MiniProgram */

/**
 * @param {MiniProgram} platform
 * @returns {import("../im.d.ts").ImSocketClass}
 */
export function taskSocket(platform) {
  return class {
    /** @type {((event: any) => any) | null} */
    onopen = null;
    /** @type {((event: any) => any) | null} */
    onmessage = null;
    /** @type {((event: any) => any) | null} */
    onerror = null;
    /** @type {((event: any) => any) | null} */
    onclose = null;
    protocol = "";
    #task;

    /**
     * @param {string} url
     * @param {string[]} [protocols]
     */
    constructor(url, protocols) {
      const failed = () => this.onclose?.({ code: 1006, reason: "", wasClean: false });
      // Without one of its callbacks uni-app returns a promise, and without `multiple` nothing on some platforms.
      const wanted = { url, multiple: true, tcpNoDelay: true, success() {}, fail: () => void Promise.resolve().then(failed) };
      const task = platform.connectSocket(protocols ? { ...wanted, protocols } : wanted);
      if (!task) throw new Error("the platform gave no SocketTask; it may have as many as it takes");
      this.#task = task;
      task.onOpen((event) => {
        this.protocol = agreed(event?.header, protocols);
        this.onopen?.({});
      });
      task.onMessage((event) => this.onmessage?.(event));
      task.onError(() => this.onerror?.({}));
      task.onClose((event) => {
        const { code = 1006, reason = "" } = event ?? {};
        this.onclose?.({ code, reason, wasClean: code !== 1006 });
      });
    }

    /** @param {string} text */
    send(text) {
      this.#task.send({ data: text, fail() {} });
    }

    /**
     * @param {number} [code]
     * @param {string} [reason]
     */
    close(code, reason) {
      this.#task.close({ code, reason, fail() {} });
    }
  };
}

/**
 * The sub-protocol that was agreed on. Platforms that show no headers are believed to have checked it.
 * @param {Record<string, unknown> | undefined} headers
 * @param {string[]} [asked]
 */
function agreed(headers, asked) {
  const shown = Object.entries(headers ?? {});
  if (shown.length === 0) return asked?.[0] ?? "";
  const [, value = ""] = shown.find(([name]) => name.toLowerCase() === "sec-websocket-protocol") ?? [];
  return String(value);
}
