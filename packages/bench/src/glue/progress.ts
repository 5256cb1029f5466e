/** @file One line on a terminal that says what is running and how long it will still take; silent in a pipe. */

export interface ProgressLine {
  /** Adds work that is known to lie ahead, in seconds of this machine or any other unit used throughout. */
  plan(units: number): void;
  /** Says what runs now, and how much of the planned work has been done since the last call. */
  update(text: string, doneUnits?: number): void;
  /** Prints a line that stays. */
  print(line: string): void;
  stop(): void;
}

/** Draws on `stream` at most ten times a second. */
export function createProgressLine(stream: NodeJS.WriteStream = process.stderr): ProgressLine {
  const live = stream.isTTY === true;
  const started = Date.now();
  let planned = 0;
  let done = 0;
  let drawn = 0;
  const clear = () => {
    if (live) stream.write("\r\u001b[2K");
  };
  return {
    plan(units) {
      planned += units;
    },
    update(text, doneUnits = 0) {
      done += doneUnits;
      if (!live || Date.now() - drawn < 100) return;
      drawn = Date.now();
      const elapsed = (drawn - started) / 1000;
      const share = planned > 0 ? Math.min(1, done / planned) : 0;
      const left = share > 0.02 ? ` · about ${duration((elapsed * (1 - share)) / share)} left` : "";
      const line = `${Math.floor(share * 100)}% · ${text} · ${duration(elapsed)}${left}`;
      stream.write(`\r\u001b[2K${line.slice(0, Math.max(20, (stream.columns ?? 100) - 1))}`);
    },
    print(line) {
      clear();
      stream.write(`${line}\n`);
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
