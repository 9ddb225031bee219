// Mini programs and React Native: no DOM, no Node.

import { ImClient as ProgramClient, storagePosition as inProgram, type ImSignal, type MiniProgram } from "../../miniprogram.js";
import { ImClient as AppClient, ImError, storagePosition as inApp, type AsyncStorage, type ReactNative } from "../../react-native.js";

declare const wx: MiniProgram;
declare const native: ReactNative;
declare const storage: AsyncStorage;

const program = new ProgramClient<{ text: string }>(wx, {
  address: "https://host/api/push-address",
  position: inProgram(wx, "42"),
  onResync: async ({ signal }) => { (signal as ImSignal).onabort = () => {}; },
});
program.on("message", ({ text }) => text.length);
program.on("error", (error) => error instanceof ImError && error.kind);
// @ts-expect-error: there are no events there.
program.addEventListener("message", () => {});

const app = new AppClient(native, { address: "https://host/api/push-address", position: inApp(storage, "42") });
app.join("lobby").then((isDone: boolean) => isDone);
app.ready.then(() => app.close());
