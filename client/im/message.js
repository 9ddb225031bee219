// What a text from the socket is: a message or a receipt. No state.

/** @typedef {import("../im.d.ts").ImReceipt} ImReceipt */

/** What a node says became of a message. */
const STATUSES = ["sent", "acknowledged", "offline", "expired"];

/**
 * Reads what a socket receives: the JSON that was sent, or the bare text if it is none.
 * @param {string} text
 * @returns {unknown}
 */
export function decodeJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * @param {string} text
 * @param {(text: string) => unknown} decode
 * @returns {{ type: "message" | "receipt", value: unknown }}
 */
export function read(text, decode) {
  const value = decode(text);
  if (!isReceipt(value)) return { type: "message", value };
  const { content } = value;
  return { type: "receipt", value: { ...value, content: typeof content === "string" ? decode(content) : content } };
}

/**
 * All members that the server writes; of `content` and `id` one may be missing. What users write must not get these at its top:
 * see README.md.
 * @param {any} value
 * @returns {value is ImReceipt}
 */
function isReceipt(value) {
  return typeof value === "object" && value !== null && typeof value.receipt === "string"
    && ["number", "string", "bigint"].includes(typeof value.to) && STATUSES.includes(value.status)
    && ("content" in value || typeof value.id === "string");
}
