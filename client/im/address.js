// Where to connect to: asks the web API, and lets nothing pass that is no address. Called once per attempt.

import { ImError, inWords, shown } from "./error.js";
import { retryAfter } from "./time.js";

/** @typedef {import("../im.d.ts").ImClientOptions} ImClientOptions */
/** @typedef {import("./environment.js").Environment} Environment */

/** A refusal of the web API. `retryAfter` is what its header says. */
class Refused extends Error {
  /**
   * @param {string} message
   * @param {string | null} retryAfter
   */
  constructor(message, retryAfter) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

/**
 * The address for one attempt.
 * @param {Environment} env
 * @param {ImClientOptions} options
 * @param {{ signal: any, attempt: number }} context
 * @returns {Promise<string | null>} null: no connection is wanted any more
 * @throws {ImError} there is none now; another attempt may have one
 */
export async function askForAddress(env, options, context) {
  const asked = options.getUrl ? "getUrl" : String(options.address);
  let answer;
  try {
    answer = await (options.getUrl ? options.getUrl(context) : post(env, asked, context.signal));
  } catch (cause) {
    const error = new ImError("url", `${asked} failed: ${inWords(cause)}`, cause);
    error.retryAfter = retryAfter(/** @type {any} */ (cause)?.retryAfter, env.wall());
    throw error;
  }
  return answer === null ? null : checked(asked, answer);
}

/**
 * @param {Environment} env
 * @param {string} address
 * @param {any} signal
 * @returns {Promise<unknown>}
 */
async function post(env, address, signal) {
  const answer = await env.post(address, signal);
  if (answer.status === 401) return null;
  if (!answer.ok) throw new Refused(`status ${answer.status}`, answer.retryAfter);
  const body = await answer.body();
  return typeof body === "object" && body !== null && "url" in body ? body.url : body;
}

/**
 * Browsers complete what is no address by that of the page and connect to it in vain, without a word; so it is told here.
 * @param {string} asked
 * @param {unknown} answer
 */
function checked(asked, answer) {
  const isUrl = Object.prototype.toString.call(answer) === "[object URL]";
  const text = typeof answer === "string" || isUrl ? String(answer) : "";
  if (!isAbsolute(text)) {
    throw new ImError("url", `${asked} gave ${shown(answer)}; expected an address that begins with wss:// or ws://${advice(answer)}`);
  }
  return text;
}

/** @param {string} text */
function isAbsolute(text) {
  return /^wss?:\/\/[^/?#\s:][^/?#\s]*(?:[/?#]|$)/i.test(text);
}

/** @param {unknown} answer */
function advice(answer) {
  if (answer === undefined || answer === "") return ", or null to end it";
  if (typeof answer !== "object" || answer === null) return "";
  if ("json" in answer) return ": return (await answer.json()).url";
  return "url" in answer ? ": return its url alone" : "";
}
