/** @file Requests that wait for the device: gathered, grouped by length, and run one batch at a time. */
import { ConsistentEEError } from "../errors.js";
import { chooseBatch } from "./choose-batch.js";

export interface QueueOptions {
  /** Requests that run together at most. */
  readonly maxBatch: number;
  /** Milliseconds that a request may wait for others while the device is idle. */
  readonly maxWait: number;
  /** Requests that may wait before further ones are refused. */
  readonly maxQueue: number;
}

/** What the queue needs to know of a request. */
export interface Queued {
  /** Tokens. */
  readonly length: number;
  /** When it came, on the clock of `performance.now()`. */
  readonly arrived: number;
}

export class RequestQueue<TJob extends Queued> {
  readonly #options: QueueOptions;
  readonly #run: (batch: readonly TJob[]) => Promise<void>;
  #waiting: TJob[] = [];
  #running = false;
  #timer: { readonly stop: () => void } | undefined;
  #idle: (() => void)[] = [];
  #roomy: (() => void)[] = [];
  /** Work that wants the device for itself, before the next batch. */
  #alone: (() => Promise<void>)[] = [];

  /** @param run must settle every request of its batch and never throw */
  constructor(options: QueueOptions, run: (batch: readonly TJob[]) => Promise<void>) {
    this.#options = options;
    this.#run = run;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Lines requests up. A call that is larger than the whole queue is taken when nobody else waits.
   * @throws ConsistentEEError `QUEUE_FULL`
   */
  push(jobs: readonly TJob[]): void {
    const { maxQueue } = this.#options;
    const waiting = this.#waiting.length;
    if (waiting > 0 && waiting + jobs.length > maxQueue)
      throw new ConsistentEEError(
        "QUEUE_FULL",
        "queue",
        `at most ${maxQueue} requests may wait, got ${jobs.length} more with ${waiting} waiting. Send fewer at a time, retry later, or raise maxQueue.`,
      );
    this.#waiting.push(...jobs);
    this.#schedule();
  }

  /** Resolves when this many more would be taken: for callers that can wait instead of being refused. */
  async room(jobs: number): Promise<void> {
    const hasRoom = () =>
      this.#waiting.length === 0 || this.#waiting.length + jobs <= this.#options.maxQueue;
    while (!hasRoom()) await new Promise<void>((resolve) => this.#roomy.push(resolve));
  }

  /** Takes a request that still waits out of the line. */
  remove(job: TJob): void {
    const place = this.#waiting.indexOf(job);
    if (place >= 0) this.#waiting.splice(place, 1);
    this.#settle();
  }

  /** Runs something while no batch runs. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#alone.push(() => work().then(resolve, reject));
      this.#schedule();
    });
  }

  /** Resolves when nothing waits and nothing runs. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#schedule();
      this.#settle();
    });
  }

  #schedule(): void {
    if (this.#running) return;
    const delay = this.#delay();
    if (delay === undefined) return;
    this.#timer?.stop();
    const go = () => {
      this.#timer = undefined;
      void this.#next();
    };
    if (delay > 0) {
      const timer = setTimeout(go, delay);
      this.#timer = { stop: () => clearTimeout(timer) };
    } else {
      // A turn later, so that requests made in one go run together.
      const immediate = setImmediate(go);
      this.#timer = { stop: () => clearImmediate(immediate) };
    }
  }

  /** Milliseconds until the next batch may start; `undefined` when there is nothing to do. */
  #delay(): number | undefined {
    if (this.#alone.length > 0) return 0;
    const oldest = this.#waiting[0];
    if (!oldest) return undefined;
    const { maxBatch, maxWait } = this.#options;
    // Whoever waits for the end does not wait for company.
    if (this.#waiting.length >= maxBatch || this.#idle.length > 0) return 0;
    return Math.max(0, Math.ceil(oldest.arrived + maxWait - performance.now()));
  }

  async #next(): Promise<void> {
    this.#running = true;
    const alone = this.#alone.shift();
    if (alone) await alone();
    // All may have been taken out of the line meanwhile.
    else if (this.#waiting.length > 0) await this.#run(this.#take());
    this.#running = false;
    this.#schedule();
    this.#settle();
  }

  #take(): TJob[] {
    const places = chooseBatch(
      this.#waiting.map(({ length }) => length),
      this.#options.maxBatch,
    );
    const chosen = new Set(places.map((place) => this.#waiting[place] as TJob));
    this.#waiting = this.#waiting.filter((job) => !chosen.has(job));
    return [...chosen];
  }

  #settle(): void {
    for (const resolve of this.#roomy.splice(0)) resolve();
    if (this.#running || this.#waiting.length > 0 || this.#alone.length > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
