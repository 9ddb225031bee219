// The one kind of error that the client tells. Knows nothing of the rest.

/** @typedef {import("../im.d.ts").ImErrorKind} ImErrorKind */

/** A failure that the client deals with by itself, told for logs and for the curious. */
export class ImError extends Error {
  /**
   * Milliseconds that whoever refused wants to be left alone for, if it said so.
   * @type {number | undefined}
   */
  retryAfter;

  /**
   * @param {ImErrorKind} kind
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(kind, message, cause) {
    // @ts-ignore: engines without `cause` ignore it.
    super(message, { cause });
    this.name = "ImError";
    this.kind = kind;
  }
}

/**
 * What went wrong, in one line, whatever was thrown.
 * @param {unknown} thrown
 */
export function inWords(thrown) {
  return thrown instanceof Error ? thrown.message : shown(thrown);
}

const LONGEST_SHOWN = 120;

/**
 * A value as an error message may show it. Never throws.
 * @param {unknown} value
 * @returns {string}
 */
export function shown(value) {
  let text;
  try {
    if (typeof value === "function") text = `a function, ${value.name || "without a name"}`;
    else if (typeof value !== "object" || value === null) text = typeof value === "string" ? JSON.stringify(value) : String(value);
    else text = `${value.constructor?.name ?? "Object"} ${JSON.stringify(value)}`;
  } catch {
    text = `a value of type ${typeof value}`;
  }
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}...` : text;
}

/**
 * Whether a value is the answer of a `fetch` that was refused, and was returned without a look at its status.
 * @param {unknown} value
 */
export function isRefusal(value) {
  return typeof value === "object" && value !== null && "ok" in value && value.ok === false && "status" in value;
}
