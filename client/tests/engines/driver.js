// Holds a client in whatever engine this is loaded into, obeys commands, and tells what the client tells.

let im;

/**
 * @param {{ start?: object, call?: string, echo?: number }} command
 * @param {(event: object) => void} tell
 * @param {Function} ImClient as this engine has it
 * @param {unknown} [WebSocket] the class to use, if not the engine's own
 */
export function obey({ start, call, echo }, tell, ImClient, WebSocket) {
  if (start) create(start, tell, ImClient, WebSocket);
  if (call) im[call]();
  if (echo) tell({ type: "echo", echo });
}

/** Options that are addresses here become calls of these; with `handles` the client tells what it handles and loads. */
function create({ check, rejoin, handles, ...options }, tell, ImClient, WebSocket) {
  const post = (url, signal, body) => fetch(url, { method: "POST", body: JSON.stringify(body), signal });
  if (rejoin) options.rejoin = (rooms, { signal }) => post(rejoin, signal, rooms);
  if (check) options.check = ({ signal }) => post(check, signal);
  if (handles) {
    options.onMessage = (message) => tell({ type: "handled", detail: message });
    options.onResync = ({ why }) => tell({ type: "loads", detail: { why } });
  }
  im = new ImClient({ resume: false, ...options, WebSocket });
  for (const type of ["state", "open", "rejoined", "message", "receipt", "close", "kicked", "error", "resumed", "resync"]) {
    im.addEventListener(type, ({ detail }) => {
      const pause = type === "state" && detail.retryAt ? detail.retryAt - Date.now() : undefined;
      tell(type === "error" ? { type, kind: detail.kind, message: detail.message } : { type, detail, pause });
    });
  }
}
