// The types, as TypeScript sees them in Node, in pages, and where there is neither; and the code itself against its comments.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { missing, packages } from "./engines/engine.js";

const CLIENT = fileURLToPath(new URL("..", import.meta.url));
const COMMON = { strict: true, noEmit: true, module: "nodenext", target: "es2022", esModuleInterop: true, types: [] };
const CASES = {
  "tests/types/node.ts": {
    lib: ["es2022"],
    types: ["node"],
    typeRoots: [join(packages, "node_modules/@types")],
    paths: { ws: [join(packages, "node_modules/@types/ws/index.d.ts")] },
  },
  "tests/types/web.ts": { lib: ["es2022", "dom", "dom.iterable"] },
  "tests/types/bare.ts tests/types/apps.ts": { lib: ["es2022"] },
  // Neither the DOM's types nor Node's: whatever global the core read would be an error.
  "im/core.js": { lib: ["es2022"], allowJs: true, checkJs: true },
  "im.js node.js miniprogram.js react-native.js": { lib: ["es2022", "dom", "dom.iterable"], allowJs: true, checkJs: true },
};

for (const [files, options] of Object.entries(CASES)) {
  test(files, { skip: missing() }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "im-types-"));
    t.after(() => rm(folder, { recursive: true }));
    const config = join(folder, "tsconfig.json");
    await writeFile(config, JSON.stringify({ compilerOptions: { ...COMMON, ...options }, files: files.split(" ").map((file) => join(CLIENT, file)) }));
    const output = await new Promise((resolve) => {
      const compiler = join(packages, "node_modules/typescript/bin/tsc");
      execFile(process.execPath, [compiler, "-p", config], (error, stdout) => resolve(error ? stdout || String(error) : ""));
    });
    assert.equal(output, "");
  });
}
