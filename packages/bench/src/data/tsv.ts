/**
 * @file Tab-separated files as GLUE ships them: a header line, one row a line, quotes literal in most files and
 * CSV-like (a quoted field, inner quotes doubled) in some copies of QQP. Which of the two is found out per file.
 */
import { readFile } from "node:fs/promises";
import { BenchError } from "../errors.js";

export interface TsvFile {
  readonly file: string;
  readonly header: readonly string[];
  readonly quoting: "literal" | "csv";
  /** Rows with as many fields as the header. */
  readonly rows: readonly TsvRow[];
  /** Rows with another number of fields. */
  readonly malformed: readonly { readonly line: number; readonly problem: string }[];
}

export interface TsvRow {
  /** Counted from 1; the header is line 1. */
  readonly line: number;
  readonly fields: readonly string[];
}

/** A file with more bad rows than this share is taken for a file of another kind. */
const MAX_MALFORMED_SHARE = 0.1;

/** @throws BenchError `MISSING_FILE`, or `BAD_FILE` when it is empty, not UTF-8, cut short or mostly malformed. */
export async function readTsv(file: string): Promise<TsvFile> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const message = missing
      ? "the file is missing. Expected a GLUE file with tab-separated columns and a header."
      : `the file can't be read: ${(cause as Error).message}.`;
    throw new BenchError(missing ? "MISSING_FILE" : "BAD_FILE", file, message, { cause });
  }
  let text: string;
  try {
    // The decoder takes a byte order mark away.
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    const message = `expected UTF-8 text, found other bytes among its ${bytes.length}. The file is damaged or cut short.`;
    throw new BenchError("BAD_FILE", file, message, { cause });
  }
  return parseTsv(text, file);
}

/** Parses the text of a file; `file` names it in errors. */
export function parseTsv(text: string, file: string): TsvFile {
  const lines = text.split(/\r?\n/);
  const endsWithNewline = lines.at(-1) === "";
  if (endsWithNewline) lines.pop();
  const headerLine = lines[0] ?? "";
  if (headerLine.trim() === "") {
    throw new BenchError("BAD_FILE", file, "line 1: expected a header, found an empty file.");
  }
  const header = headerLine.split("\t").map((name) => name.trim());
  const quoting = detectQuoting(lines);

  const rows: TsvRow[] = [];
  const malformed: { line: number; problem: string }[] = [];
  for (let index = 1; index < lines.length; index++) {
    const content = lines[index]!;
    const line = index + 1;
    if (content === "") {
      malformed.push({ line, problem: "an empty line" });
      continue;
    }
    let fields = content.split("\t");
    if (quoting === "csv") {
      if (fields.length > header.length) fields = joinQuoted(fields);
      fields = fields.map(unquote);
    }
    if (fields.length === header.length) {
      rows.push({ line, fields });
      continue;
    }
    const problem = `expected ${header.length} fields, found ${fields.length}`;
    if (line === lines.length && !endsWithNewline && fields.length < header.length) {
      throw new BenchError(
        "BAD_FILE",
        file,
        `line ${line}: ${problem}, and the line has no end. The file is cut short: fetch it again.`,
      );
    }
    malformed.push({ line, problem });
  }
  if (rows.length === 0) {
    const found = malformed[0] ? `; line ${malformed[0].line}: ${malformed[0].problem}` : "";
    const message = `expected rows below the header, found none${found}. Fetch the file again.`;
    throw new BenchError("BAD_FILE", file, message);
  }
  if (malformed.length > MAX_MALFORMED_SHARE * (rows.length + malformed.length)) {
    const first = malformed[0]!;
    throw new BenchError(
      "BAD_FILE",
      file,
      `${malformed.length} of ${rows.length + malformed.length} rows are malformed, ` +
        `the first at line ${first.line}: ${first.problem}. Is it the file of another task?`,
    );
  }
  return { file, header, quoting, rows, malformed };
}

/** True for `"…"` whose inner quotes are all doubled. */
function isQuoted(field: string): boolean {
  if (field.length < 2 || !field.startsWith('"') || !field.endsWith('"')) return false;
  return !field.slice(1, -1).replaceAll('""', "").includes('"');
}

/**
 * CSV quoting leaves two marks: nearly all fields that begin with a quote are well-formed quoted fields, and some
 * of them hold a doubled quote. In a literal file, fields begin with a quotation that ends somewhere inside.
 */
function detectQuoting(lines: readonly string[]): "literal" | "csv" {
  let opening = 0;
  let wellFormed = 0;
  let doubled = 0;
  for (let index = 1; index < lines.length; index++) {
    const content = lines[index]!;
    if (!content.includes('"')) continue;
    for (const field of joinQuoted(content.split("\t"))) {
      if (!field.startsWith('"')) continue;
      opening++;
      if (!isQuoted(field)) continue;
      wellFormed++;
      if (field.slice(1, -1).includes('""')) doubled++;
    }
  }
  return doubled > 0 && wellFormed >= 0.9 * opening ? "csv" : "literal";
}

/** Joins fields that a tab inside quotes has cut apart; what never closes stays as it is. */
function joinQuoted(fields: readonly string[]): string[] {
  const joined: string[] = [];
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index]!;
    joined.push(field);
    if (!field.startsWith('"') || isQuoted(field)) continue;
    let candidate = field;
    for (let end = index + 1; end < fields.length; end++) {
      candidate += `\t${fields[end]}`;
      if (!isQuoted(candidate)) continue;
      joined[joined.length - 1] = candidate;
      index = end;
      break;
    }
  }
  return joined;
}

function unquote(field: string): string {
  return isQuoted(field) ? field.slice(1, -1).replaceAll('""', '"') : field;
}
