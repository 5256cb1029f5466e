/** @file Public entry of `@cee/baselines`. */
export { berxit } from "./berxit.js";
export { deebert } from "./deebert.js";
export { pabee } from "./pabee.js";
export { pceeBert } from "./pcee-bert.js";
export type { PhaseSettings, Recipe } from "./recipe.js";
export { rightTool } from "./right-tool.js";
export { romeBert } from "./rome-bert.js";
