/** @file Where the guide explains what a check expects. */

/** Sections of "Write a strategy" (docs/write-a-strategy.md) by the names that checks give them; each is a heading of the guide. */
export const GUIDE_SECTIONS = {
  define: "Define",
  options: "Options",
  needs: "Needs",
  observe: "Observe",
  decide: "Decide",
  state: "State",
  "decide-tensor": "Decide tensor",
  knob: "Knob",
  "ties-and-nan": "Ties and NaN",
  batches: "Batches",
  hosts: "Hosts",
  params: "Params",
  phases: "Phases",
  calibrate: "Calibrate",
  save: "Save",
  leaks: "Leaks",
  "test-vectors": "Test vectors",
  heads: "Heads",
  checklist: "Checklist",
} as const;

export type GuideSection = keyof typeof GUIDE_SECTIONS;

/** Ends a message. */
export function guideTo(section: GuideSection): string {
  return `See "Write a strategy", section "${section}".`;
}
