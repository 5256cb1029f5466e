/** @file Writes a table as a user would bring it: the name says in which format. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";

/** Columns of equal length, by their names. */
export type Columns = Readonly<Record<string, readonly (string | number)[]>>;

const quoted = (value: string | number) => `"${String(value).replaceAll('"', '""')}"`;

const writers: Readonly<
  Record<string, (names: readonly string[], rows: readonly (string | number)[][]) => string>
> = {
  ".csv": (names, rows) => [names, ...rows].map((row) => row.map(quoted).join(",")).join("\n"),
  ".tsv": (names, rows) => [names, ...rows].map((row) => row.join("\t")).join("\n"),
  ".jsonl": (names, rows) =>
    rows
      .map((row) => JSON.stringify(Object.fromEntries(row.map((value, at) => [names[at], value]))))
      .join("\n"),
};

/** Writes the columns to a file whose name ends in `.csv`, `.tsv`, `.jsonl` or `.parquet`. */
export function writeTable(file: string, columns: Columns): void {
  const names = Object.keys(columns);
  const extension = path.extname(file);
  if (extension === ".parquet") {
    const columnData = Object.entries(columns).map(([name, data]) => ({
      name,
      data: [...data],
      type: typeof data[0] === "number" ? ("DOUBLE" as const) : ("STRING" as const),
    }));
    writeFileSync(file, new Uint8Array(parquetWriteBuffer({ columnData })));
    return;
  }
  const writer = writers[extension];
  if (!writer) throw new Error(`no table is called ${file}`);
  const count = columns[names[0] as string]?.length ?? 0;
  const rows = Array.from({ length: count }, (_, row) =>
    names.map((name) => columns[name]?.[row] as string | number),
  );
  writeFileSync(file, writer(names, rows));
}
