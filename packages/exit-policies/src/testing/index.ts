/** @file Public entry of `@cee/exit-policies/testing`. */
export {
  type FixedExitsOptions,
  type Fixture,
  type FixtureRows,
  fixedExits,
} from "./fixed-exits.js";
