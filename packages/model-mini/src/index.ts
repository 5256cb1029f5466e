/** @file Where the weights of this package lie; load them with `loadExitEncoder` of `@cee/backbone`. */
import { fileURLToPath } from "node:url";

/** The folder with `config.json`, `model.safetensors`, `tokenizer.json` and `vocab.txt`. */
export const modelFolder: string = fileURLToPath(new URL("../model", import.meta.url));
