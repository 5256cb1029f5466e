/** @file Public entry of `@cee/baselines`; the recipes are not here yet. */
export {};
