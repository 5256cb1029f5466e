/** @file Public entry of `@cee/exit-policies/testing`. */

export { type ConformanceCheck, type ConformanceOptions, conformance } from "./conformance.js";
export {
  type FixedExitsOptions,
  type Fixture,
  type FixtureRows,
  fixedExits,
} from "./fixed-exits.js";
export { type HeadConformanceOptions, headConformance } from "./head-conformance.js";
export type { DecisionVector, KnobEnds } from "./subject.js";
