// What the client needs from where it runs. The core asks for nothing else: no global, no class of an engine. One adapter per
// engine provides it (browser.js, ../node.js), and the tests one of their own. Types alone.

/**
 * @typedef {object} Environment
 * @property {() => number} now milliseconds of a clock that nobody sets
 * @property {() => number} wall milliseconds since 1970, as the machine believes
 * @property {(ms: number, call: () => void) => () => void} later calls once, unless what it returns is called before
 * @property {() => number} random from 0 up to 1
 * @property {() => { signal: any, abort(): void } | undefined} [controller] what ends a call of the application, for its `fetch`;
 *   left out where there is no such class
 * @property {() => string | undefined} [obstacle] why nothing can be connected to here
 * @property {(url: string, protocols: string[], listener: LinkListener) => Link} connect begins to connect; throws an `ImError` if
 *   the address cannot be
 * @property {(address: string, signal: any) => Promise<Answer>} post asks the web API, past all caches
 * @property {boolean} hasBase whether a relative address of the web API means something here
 * @property {() => boolean} isOnline whether there may be a network
 * @property {() => boolean} isHidden whether nobody looks
 * @property {Between} [between]
 * @property {(listener: WakeListener) => () => void} listen tells what happens to the page or app, until what it returns is called
 */

/**
 * What pages of one origin have between them; left out where there is nothing of the kind.
 * @typedef {object} Between
 * @property {(name: string, holder: Holder, isForced: boolean) => () => void} lock waits for a lock that one page has at a time, and holds
 *   it until `held` is fulfilled, or the page is gone, or another page takes it by force; what it returns ends the wait
 * @property {(name: string, heard: (word: any) => void) => { post: (word: any) => void, close: () => void }} channel to all other pages
 */

/**
 * @typedef {object} Holder
 * @property {() => Promise<void>} held
 * @property {() => void} lost another page has taken it by force
 */

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {boolean} ok
 * @property {string | null} retryAfter
 * @property {() => Promise<unknown>} body read as JSON
 */

/**
 * One connection, or the attempt at one.
 * @typedef {object} Link
 * @property {string} protocol the sub-protocol that was agreed on; empty: none
 * @property {(text: string) => void} send says a text if it is open; never throws
 * @property {(code: number, reason: string) => void} close lets go: nothing is told any more
 */

/**
 * @typedef {object} LinkListener
 * @property {() => void} opened at most once
 * @property {(data: unknown) => void} received
 * @property {(end: End) => void} ended exactly once, unless `close` was called before; nothing comes after it
 */

/**
 * @typedef {object} End
 * @property {number} code
 * @property {string} reason
 * @property {boolean} wasClean
 * @property {boolean} wasOpen
 * @property {string} [forbidden] why the page itself does not allow this address
 */

/**
 * @typedef {object} WakeListener
 * @property {() => void} networkIsGone
 * @property {() => void} networkIsBack
 * @property {() => void} isVisible
 * @property {() => void} isHidden nobody looks at it; its timers run rarely from now on
 * @property {() => void} isPutAway into the back-forward cache, or frozen: no code runs until it is taken out
 * @property {() => void} isBack
 */

export {};
