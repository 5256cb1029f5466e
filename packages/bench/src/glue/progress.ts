/** @file One line on a terminal that says what is running and how long it will still take; in a pipe, only lines that stay. */

export interface ProgressLine {
  /** Adds work that is known to lie ahead, in any unit used throughout; a negative number takes some back. */
  plan(units: number): void;
  /** Says what runs now, and how much of the planned work has been done since the last call. */
  update(text: string, doneUnits?: number): void;
  /** Says how much of the planned work is behind, done now or found done: corrects what the updates added up to. */
  settle(units: number): void;
  /** Prints a line that stays. */
  print(line: string): void;
  stop(): void;
}

/** What something that takes long is given. */
export interface RunHooks {
  readonly progress: ProgressLine;
  /** Stops after the step in progress. */
  readonly signal?: AbortSignal | undefined;
}

/** The part of a terminal that is used. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const REDRAW_MS = 100;

/** Draws on `stream` at most ten times a second. */
export function createProgressLine(
  stream: ProgressStream = process.stderr,
  now: () => number = Date.now,
): ProgressLine {
  const live = stream.isTTY === true;
  const started = now();
  let planned = 0;
  let done = 0;
  // What was worked on in this process, and since when: work that was found done says nothing about speed.
  let worked = 0;
  let firstWork: number | undefined;
  let drawn = Number.NEGATIVE_INFINITY;
  const clear = () => {
    if (live) stream.write("\r\u001b[2K");
  };
  const timeLeft = (): string => {
    const elapsed = firstWork === undefined ? 0 : (now() - firstWork) / 1000;
    if (elapsed < 2 || worked <= 0 || done >= planned) return "";
    return `, about ${duration(((planned - done) * elapsed) / worked)} left`;
  };
  return {
    plan(units) {
      planned = Math.max(0, planned + units);
    },
    update(text, doneUnits = 0) {
      done += doneUnits;
      worked += doneUnits;
      if (doneUnits > 0) firstWork ??= now();
      if (!live || now() - drawn < REDRAW_MS) return;
      drawn = now();
      // Never 100 % before the end: timing comes after the last step.
      const share = planned > 0 ? Math.min(0.99, done / planned) : 0;
      const spent = duration((drawn - started) / 1000);
      // The time comes first: a narrow terminal cuts the end off.
      const line = `${Math.floor(share * 100)}% · ${spent}${timeLeft()} · ${text}`;
      // A terminal that does not know its width says 0.
      stream.write(`\r\u001b[2K${line.slice(0, Math.max(20, (stream.columns || 100) - 1))}`);
    },
    settle(units) {
      done = units;
    },
    print(line) {
      clear();
      stream.write(`${line}\n`);
      drawn = Number.NEGATIVE_INFINITY;
    },
    stop: clear,
  };
}

/** `95` to `1 min 35 s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
