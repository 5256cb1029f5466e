/** @file Runs `cee` from the sources, for the scripts of the repository's package.json. */
import { cee, runMain } from "./cee.js";

await runMain(() => cee(process.argv.slice(2), { cee: "pnpm cee", bench: "pnpm bench" }));
