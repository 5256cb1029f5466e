/** @file Transformers.js where it is installed: a model laid out as it reads one, and nothing fetched. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

/** The part of the library that every use of it needs. */
export interface TransformersLibrary {
  readonly env: {
    version: string;
    allowRemoteModels: boolean;
    localModelPath: string;
  };
  readonly Tensor: new (type: string, data: BigInt64Array, dims: readonly number[]) => object;
}

export interface TransformersThreads {
  readonly threads: number;
  /**
   * Whether ONNX Runtime's threads spin between operations, which is its default and gives others that run in turn a bad
   * time.
   */
  readonly spinning: boolean;
}

export interface StagedModel<TLibrary> {
  readonly library: TLibrary;
  /** What `from_pretrained` takes: the model's name, and options for its sessions. */
  readonly name: string;
  readonly options: object;
  toTensor(data: ArrayLike<number>, dims: readonly number[]): object;
  /** Deletes the files. */
  remove(): void;
}

/** Lets `write` fill a folder, with `onnx/` in it, for the library; or says why there is none. */
export async function stageModel<TLibrary extends TransformersLibrary>(
  write: (folder: string) => Promise<void>,
  { threads, spinning }: TransformersThreads,
): Promise<StagedModel<TLibrary> | { readonly missing: string }> {
  let library: TLibrary;
  try {
    library = (await import("@huggingface/transformers")) as unknown as TLibrary;
  } catch (cause) {
    const reason = (cause as Error).message.split("\n", 1)[0];
    return {
      missing: `Transformers.js was not found (${reason}). npm install @huggingface/transformers@4.3.1 brings it.`,
    };
  }
  const folder = mkdtempSync(join(tmpdir(), "cee-transformers-"));
  mkdirSync(join(folder, "onnx"));
  await write(folder);
  library.env.allowRemoteModels = false;
  library.env.localModelPath = `${dirname(folder)}/`;
  const spin = spinning ? "1" : "0";
  return {
    library,
    name: basename(folder),
    options: {
      dtype: "fp32",
      device: "cpu",
      local_files_only: true,
      session_options: {
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        extra: { session: { intra_op: { allow_spinning: spin } } },
      },
    },
    toTensor: (data, dims) =>
      new library.Tensor(
        "int64",
        BigInt64Array.from(data, (number) => BigInt(number)),
        dims,
      ),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
