/** @file Conformance checks of what a strategy declares: name, tasks, knob and options. */
import { sameJson, withOptions } from "../define.js";
import { API_VERSION, type ExitStrategy } from "../strategy.js";
import type { Check } from "./conformance.js";
import { ensure, ensureThrows, fail } from "./subject.js";

type Make = (options?: unknown) => ExitStrategy;

export const definitionChecks: readonly Check[] = [
  {
    name: "the factory carries its name, definition and contract version",
    run({ factory, definition, name }) {
      ensure(
        factory.strategyName === name && definition.name === name,
        "the factory must be what defineExitStrategy returned",
        `strategyName ${factory.strategyName}, definition.name ${definition.name}`,
        "define",
      );
      ensure(
        factory.apiVersion === API_VERSION,
        `the strategy must be made for version ${API_VERSION} of the contract`,
        factory.apiVersion,
        "define",
      );
    },
  },
  {
    name: "the name is kebab-case",
    run({ name }) {
      ensure(
        /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name),
        'the name must be kebab-case such as "my-rule", since files and flags use it',
        name,
        "define",
      );
    },
  },
  {
    name: "tasks and needs are listed once each",
    run({ definition: { tasks, needs } }) {
      for (const list of [tasks, needs] as readonly (readonly string[])[])
        ensure(
          new Set(list).size === list.length,
          "tasks and needs must name each entry once",
          list,
          "define",
        );
    },
  },
  {
    name: "calling the factory twice gives equal strategies",
    run({ configurations, factory }) {
      for (const { options } of configurations)
        ensure(
          sameJson((factory as Make)(options).options, (factory as Make)(options).options),
          "the schema must turn the same options into the same result",
          options,
          "options",
        );
    },
  },
  {
    name: "validated options are accepted again unchanged",
    run({ configurations }) {
      for (const strategy of configurations) {
        const again = withOptions(strategy, {});
        ensure(
          sameJson(again.options, strategy.options),
          "the schema must accept its own output and leave it as it is (files are validated again)",
          `${JSON.stringify(strategy.options)} became ${JSON.stringify(again.options)}`,
          "options",
        );
      }
    },
  },
  {
    name: "options survive JSON",
    run({ configurations, factory }) {
      for (const { options } of configurations) {
        const back = (factory as Make)(JSON.parse(JSON.stringify(options))).options;
        ensure(
          sameJson(back, options),
          "options must survive being written to JSON and read again",
          `${JSON.stringify(options)} became ${JSON.stringify(back)}`,
          "options",
        );
      }
    },
  },
  {
    name: "options that are no object are refused",
    run({ factory }) {
      for (const garbage of [null, 7, "fast", true])
        ensureThrows(
          () => (factory as Make)(garbage),
          ["INVALID_OPTIONS"],
          `the schema must refuse ${JSON.stringify(garbage)} as options`,
          "options",
        );
    },
  },
  {
    name: "an option of the wrong type is refused",
    appliesTo: ({ configurations }) =>
      configurations.some(({ options }) => Object.keys(options).length > 0),
    run({ configurations }) {
      for (const strategy of configurations)
        for (const option of Object.keys(strategy.options))
          ensureThrows(
            () => withOptions(strategy, { [option]: { not: ["a", "value"] } }),
            ["INVALID_OPTIONS"],
            `the schema must refuse an object as "${option}"`,
            "options",
          );
    },
  },
  {
    name: "configured options cannot be changed",
    appliesTo: ({ configurations }) =>
      configurations.some(({ options }) => Object.keys(options).length > 0),
    run({ configurations }) {
      for (const { options } of configurations)
        ensure(Object.isFrozen(options), "options must be frozen", "an open object", "options");
    },
  },
  {
    name: "the knob's grid holds distinct values in order",
    appliesTo: ({ definition }) => definition.knob !== undefined,
    run({ definition }) {
      const grid: readonly number[] = definition.knob?.grid ?? [];
      ensure(
        grid.length >= 2 &&
          grid.every((value, index) => index === 0 || value > (grid[index - 1] as number)),
        "the knob's grid must hold at least two values, ascending and distinct",
        grid,
        "knob",
      );
    },
  },
  {
    name: "every value of the knob's grid is valid",
    isVital: true,
    appliesTo: ({ definition }) => definition.knob !== undefined,
    run({ definition, configurations }) {
      const { knob } = definition;
      if (!knob) return;
      for (const strategy of configurations)
        for (const value of knob.grid)
          try {
            withOptions(strategy, { [knob.option]: value });
          } catch (error) {
            fail(
              `the schema must accept ${value}, which the grid lists, as "${knob.option}"`,
              String(error),
              "knob",
            );
          }
    },
  },
  {
    name: "calibrated options exist in the schema",
    appliesTo: ({ definition }) => (definition.calibrated ?? []).length > 0,
    run({ definition, configurations }) {
      for (const option of definition.calibrated ?? [])
        for (const { options } of configurations)
          ensure(
            option in options,
            `calibrated names "${option}", so the schema must give it a default`,
            Object.keys(options),
            "calibrate",
          );
    },
  },
  {
    name: "calibrate and calibrated go together",
    appliesTo: ({ definition }) =>
      definition.calibrate !== undefined || definition.calibrated !== undefined,
    run({ definition }) {
      ensure(
        typeof definition.calibrate === "function" && (definition.calibrated ?? []).length > 0,
        "a strategy with calibrate must list in calibrated what it sets, and the other way round",
        definition.calibrate ? "no list" : "no calibrate",
        "calibrate",
      );
    },
  },
];
