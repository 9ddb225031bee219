// The client for React Native: the one of im.d.ts, without what it has of `EventTarget`.

import type { ImClient as PageClient, ImClientOptions, ImPosition } from "./im.js";

export * from "./im.js";

/** What the app gives. */
export interface ReactNative {
  /** Of `react-native`. Without it the client does not go away with the app, and comes back when the next doubt says so. */
  AppState?: {
    readonly currentState: string | null;
    addEventListener(type: "change", listener: (state: any) => void): { remove(): void };
  };
  /** The default export of `@react-native-community/netinfo`, if the app has it. */
  NetInfo?: {
    addEventListener(listener: (state: any) => void): () => void;
  };
}

/** What is used of `@react-native-async-storage/async-storage`. */
export interface AsyncStorage {
  getItem(key: string): Promise<string | null>;
  setItem(key: string, value: string): Promise<void>;
  removeItem(key: string): Promise<void>;
}

export interface ImClient<Message = any>
  extends Omit<PageClient<Message>, "addEventListener" | "dispatchEvent" | "removeEventListener"> {}

/** `Message` is what your service sends. */
export class ImClient<Message = any> {
  /**
   * @param platform what the app imports
   * @param options `address` must begin with `https://`; `share` has no effect
   */
  constructor(platform: ReactNative, options: ImClientOptions);
}

/** A place in the app's storage, by user: after a restart it goes on from there. Throws a `TypeError` without a user. */
export function storagePosition(storage: AsyncStorage, user: string): ImPosition;
