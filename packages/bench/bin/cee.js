#!/usr/bin/env node
import { cee, runMain } from "../dist/cee.js";

await runMain(() => cee(process.argv.slice(2)));
