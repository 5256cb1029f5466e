/** @file Tables that a user brings: TSV, CSV, JSON Lines and parquet, as rows of named values. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { CsvError, parse } from "csv-parse/sync";
import { parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { BenchError } from "../errors.js";
import { openParquet } from "./parquet.js";
import { readTsv } from "./tsv.js";

export interface TableFile {
  readonly file: string;
  readonly columns: readonly string[];
  readonly rows: readonly TableRow[];
  /** Rows that are no rows of this table; lines count from 1. */
  readonly malformed: readonly { readonly line: number; readonly problem: string }[];
}

export interface TableRow {
  /** Where the row starts, counted from 1; of parquet its number. */
  readonly line: number;
  readonly values: Readonly<Record<string, unknown>>;
}

type Read = (file: string) => Promise<Omit<TableFile, "file">>;

/** Readers by how a file's name ends. */
const readers: Readonly<Record<string, Read>> = {
  ".tsv": readTabs,
  ".csv": readCsv,
  ".jsonl": readJsonLines,
  ".ndjson": readJsonLines,
  ".parquet": readParquet,
};

/** Reads a table. @throws BenchError `MISSING_FILE`, `BAD_FILE` */
export async function readTable(file: string): Promise<TableFile> {
  const read = readers[path.extname(file).toLowerCase()];
  if (!read)
    throw new BenchError(
      "BAD_FILE",
      file,
      `expected a name that ends in ${Object.keys(readers).join(", ")}, which says what the file is. Rename or convert it.`,
    );
  const table = { file, ...(await read(file)) };
  if (table.rows.length === 0) {
    const first = table.malformed[0];
    throw new BenchError(
      "BAD_FILE",
      file,
      `expected rows, found ${first ? `none that can be read; line ${first.line}: ${first.problem}` : "an empty file"}.`,
    );
  }
  return table;
}

async function readTabs(file: string): Promise<Omit<TableFile, "file">> {
  const { header, rows, malformed } = await readTsv(file);
  return {
    columns: header,
    rows: rows.map(({ line, fields }) => ({ line, values: named(header, fields) })),
    malformed,
  };
}

async function readCsv(file: string): Promise<Omit<TableFile, "file">> {
  let records: { readonly record: readonly string[]; readonly info: { readonly lines: number } }[];
  try {
    records = parse(await readText(file), {
      bom: true,
      info: true,
      relax_column_count: true,
      // Editors leave files with both.
      record_delimiter: ["\r\n", "\n", "\r"],
      skip_empty_lines: true,
    }) as never;
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    throw new BenchError("BAD_FILE", file, `is not CSV: ${cause.message}.`, { cause });
  }
  const [first, ...rest] = records;
  if (!first) return { columns: [], rows: [], malformed: [] };
  const columns = first.record.map((name) => name.trim());
  const rows: TableRow[] = [];
  const malformed: { line: number; problem: string }[] = [];
  for (const { record, info } of rest) {
    // Of a record that spans lines, the parser knows the last one.
    const line = info.lines - record.join("").split("\n").length + 1;
    if (record.length === columns.length) rows.push({ line, values: named(columns, record) });
    else
      malformed.push({
        line,
        problem: `expected ${columns.length} fields, found ${record.length}`,
      });
  }
  return { columns, rows, malformed };
}

async function readJsonLines(file: string): Promise<Omit<TableFile, "file">> {
  const columns = new Set<string>();
  const rows: TableRow[] = [];
  const malformed: { line: number; problem: string }[] = [];
  for (const [index, text] of (await readText(file)).split(/\r?\n/).entries()) {
    if (text.trim() === "") continue;
    const line = index + 1;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      malformed.push({ line, problem: `not JSON (${(cause as Error).message})` });
      continue;
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      malformed.push({ line, problem: "not an object with names and values" });
      continue;
    }
    for (const name of Object.keys(value)) columns.add(name);
    rows.push({ line, values: value as Record<string, unknown> });
  }
  return { columns: [...columns], rows, malformed };
}

async function readParquet(file: string): Promise<Omit<TableFile, "file">> {
  const { buffer, columns, damaged } = await openParquet(file);
  try {
    const records = await parquetReadObjects({ file: buffer, compressors });
    return {
      columns,
      rows: records.map((values, index) => ({ line: index + 1, values })),
      malformed: [],
    };
  } catch (cause) {
    throw damaged(cause);
  }
}

async function readText(file: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new BenchError(
      missing ? "MISSING_FILE" : "BAD_FILE",
      file,
      missing
        ? "there is no such file. Check the path."
        : `can't be read: ${(cause as Error).message}. Name a file that can.`,
      { cause },
    );
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new BenchError("BAD_FILE", file, "expected UTF-8 text, found other bytes. Convert it.", {
      cause,
    });
  }
}

function named(columns: readonly string[], fields: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(columns.map((name, index) => [name, fields[index]]));
}
