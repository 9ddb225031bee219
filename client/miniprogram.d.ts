// The client for mini programs: the one of im.d.ts, without what it has of `EventTarget`.

import type { ImClient as PageClient, ImClientOptions, ImPosition } from "./im.js";

export * from "./im.js";

/** What is used of `wx` or `uni`. What they may leave out, the client does without. */
export interface MiniProgram {
  connectSocket(options: any): SocketTask | undefined;
  request(options: any): any;
  getStorageSync(key: string): any;
  setStorageSync(key: string, value: any): void;
  removeStorageSync(key: string): void;
  getNetworkType?(options: any): any;
  onNetworkStatusChange?(listener: (event: any) => void): any;
  offNetworkStatusChange?(listener: (event: any) => void): any;
  onAppShow?(listener: (event?: any) => void): any;
  offAppShow?(listener: (event?: any) => void): any;
  onAppHide?(listener: (event?: any) => void): any;
  offAppHide?(listener: (event?: any) => void): any;
  /** In mini games. */
  onShow?(listener: (event?: any) => void): any;
  offShow?(listener: (event?: any) => void): any;
  onHide?(listener: (event?: any) => void): any;
  offHide?(listener: (event?: any) => void): any;
}

/** What is used of a socket there. */
export interface SocketTask {
  onOpen(listener: (event: any) => void): void;
  onMessage(listener: (event: any) => void): void;
  onError(listener: (event: any) => void): void;
  onClose(listener: (event: any) => void): void;
  send(options: any): void;
  close(options: any): void;
}

/** What the callbacks get as `signal`: it has no `addEventListener`. Set `onabort` to what ends your call: `() => task.abort()`. */
export interface ImSignal {
  readonly aborted: boolean;
  onabort: (() => void) | null;
}

export interface ImClient<Message = any>
  extends Omit<PageClient<Message>, "addEventListener" | "dispatchEvent" | "removeEventListener"> {}

/** `Message` is what your service sends. */
export class ImClient<Message = any> {
  /**
   * @param platform `wx` or `uni`
   * @param options `address` must begin with `https://`; `share` and `WebSocket` have no effect
   */
  constructor(platform: MiniProgram, options: ImClientOptions);
}

/** A place in the program's storage, by user: after a restart it goes on from there. Throws a `TypeError` without a user. */
export function storagePosition(platform: MiniProgram, user: string): ImPosition;
