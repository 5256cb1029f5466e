/**
 * @file Finds the programs outside npm that some tests need: `test.runIf(needs("onnx"))("...", ...)`.
 *
 * A missing program skips its tests, and says so once. `CEE_REQUIRE=chromium,onnx` (set in CI) makes it an error
 * instead, so that a machine set up wrongly cannot pass by skipping.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const candidates = {
  /** A browser that takes `--headless`. */
  chromium: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  /** Chromium's software Vulkan driver, for ONNX Runtime's WebGPU provider: a value of `VK_DRIVER_FILES`. */
  swiftshader: ["/usr/lib/chromium/vk_swiftshader_icd.json"],
  /** A Python interpreter that can import the module. Debian's own comes first: its packages are not seen by others. */
  python: ["/usr/bin/python3", "python3"],
  onnx: ["/usr/bin/python3", "python3"],
  torch: ["/usr/bin/python3", "python3"],
} as const;

export type Tool = keyof typeof candidates;

const packages: Record<Tool, string> = {
  chromium: "chromium",
  swiftshader: "chromium",
  python: "python3",
  onnx: "python3-onnx",
  torch: "python3-torch",
};

const found = new Map<Tool, string | undefined>();

/** Path of the program, `undefined` where there is none. `CEE_PYTHON` names the interpreter to try first. */
export function pathOf(tool: Tool): string | undefined {
  if (!found.has(tool)) found.set(tool, search(tool));
  return found.get(tool);
}

/**
 * Whether every tool is here.
 * @throws Error when one is missing that `CEE_REQUIRE` names.
 */
export function needs(...tools: readonly Tool[]): boolean {
  const missing = tools.filter((tool) => pathOf(tool) === undefined);
  const required = (process.env.CEE_REQUIRE ?? "").split(",").map((name) => name.trim());
  for (const tool of missing) {
    const advice = `On Debian: apt-get install ${packages[tool]}.`;
    if (required.includes(tool)) {
      throw new Error(`[tests] ${tool} is required by CEE_REQUIRE and was not found. ${advice}`);
    }
    announce(`skipping tests that need ${tool}. ${advice}`);
  }
  return missing.length === 0;
}

const announced = new Set<string>();

function announce(line: string): void {
  if (announced.has(line)) return;
  announced.add(line);
  process.stderr.write(`[tests] ${line}\n`);
}

function search(tool: Tool): string | undefined {
  if (tool === "chromium" || tool === "swiftshader") return candidates[tool].find(existsSync);
  const chosen = process.env.CEE_PYTHON;
  const interpreters = chosen === undefined ? candidates[tool] : [chosen, ...candidates[tool]];
  return interpreters.find((interpreter) => {
    // Any module of its own says whether an interpreter runs.
    const wanted = tool === "python" ? "json" : tool;
    const probe = spawnSync(interpreter, ["-c", `import ${wanted}`], { stdio: "ignore" });
    return probe.status === 0;
  });
}
