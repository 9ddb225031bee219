// Neither the DOM's types nor Node's.

import { ImClient } from "../../im.js";

const im = new ImClient<{ id: string }>({ getUrl: ({ signal }) => (signal.aborted ? null : "wss://host/") });
im.addEventListener("message", ({ detail }) => detail.id.length);
im.connect();
