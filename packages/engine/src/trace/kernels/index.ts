/** @file Every kernel that can be traced, by its TensorFlow.js name. */
import { elementwise } from "./elementwise.js";
import type { KernelTable } from "./kernel.js";
import { linalg } from "./linalg.js";
import { shape } from "./shape.js";

export const kernels: KernelTable = { ...elementwise, ...linalg, ...shape };
