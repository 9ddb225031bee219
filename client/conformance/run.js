// Plays the scenarios with a client: `node run.js [--only WORDS] [--jobs N] -- COMMAND [ARGUMENTS]`, COMMAND being its driver.
// Exits with 0 if all passed. README.md says what a driver is.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Driver } from "./driver.js";
import { play } from "./play.js";

/** Most of them wait most of the time. */
const JOBS = 8;
const SCENARIOS = new URL("scenarios.json", import.meta.url);

/** @returns {Promise<{ name: string, steps: object[] }[]>} */
export async function scenarios() {
  return JSON.parse(await readFile(SCENARIOS, "utf8"));
}

/**
 * @param {string[]} command of the driver
 * @param {{ only?: string, jobs?: number, done: (name: string, fault: string | undefined) => void }} options
 */
export async function run(command, { only = "", jobs = JOBS, done }) {
  const waiting = (await scenarios()).filter(({ name }) => name.includes(only));
  const work = async () => {
    const driver = new Driver(command);
    for (let scenario = waiting.shift(); scenario; scenario = waiting.shift()) done(scenario.name, await play(scenario, driver));
    await driver.kill();
  };
  await Promise.all(Array.from({ length: jobs }, work));
}

async function main() {
  const { values, positionals: command } = parseArgs({
    options: { only: { type: "string" }, jobs: { type: "string" } },
    allowPositionals: true,
  });
  if (command.length === 0) {
    process.stderr.write("node run.js [--only WORDS] [--jobs N] -- COMMAND [ARGUMENTS]\n");
    process.exit(2);
  }
  let [passed, failed] = [0, 0];
  await run(command, {
    only: values.only,
    jobs: values.jobs === undefined ? undefined : Number(values.jobs),
    done: (name, fault) => {
      if (fault === undefined) passed += 1;
      else failed += 1;
      const lines = fault === undefined ? [`ok      ${name}`] : [`FAILED  ${name}`, ...fault.split("\n").map((line) => `        ${line}`)];
      process.stdout.write(`${lines.join("\n")}\n`);
    },
  });
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  if (failed > 0 || passed === 0) process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
