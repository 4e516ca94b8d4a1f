// Call functions of the page's modules, and print their results as JSON.
//
//   node pieces.mjs < '[[MODULE, FUNCTION, [ARGUMENT, …]], …]'
//
// {"base64": TEXT} stands for bytes.

import { readFileSync } from "node:fs";

const calls = JSON.parse(readFileSync(0, "utf8"), (_, value) =>
  value?.base64 === undefined ? value : new Uint8Array(Buffer.from(value.base64, "base64")),
);
const results = [];
for (const [module, name, values] of calls) {
  const functions = await import(new URL(`../../demo/web/${module}`, import.meta.url));
  try {
    results.push(functions[name](...values));
  } catch (error) {
    results.push({ error: error.message });
  }
}
const encode = (_, value) =>
  value instanceof Uint8Array ? { base64: Buffer.from(value).toString("base64") } : value;
console.log(JSON.stringify(results, encode));
