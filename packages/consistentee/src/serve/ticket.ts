/** @file One request on its way: what it asks, whom it answers, and when things happened. */
import type { RowAnswer } from "@cee/exit-policies";
import type { PreparedRow } from "../requests.js";
import type { Queued } from "./request-queue.js";

export class Ticket<TAnswer> implements Queued {
  readonly answer: Promise<TAnswer>;
  readonly length: number;
  /** When its batch started. */
  started = 0;
  /** Requests in its batch. */
  batchSize = 0;
  /** Where the strategy let it go, before its budget was spent. */
  left: RowAnswer | undefined;
  #resolve!: (answer: TAnswer) => void;
  #reject!: (reason: unknown) => void;
  #state: "open" | "answered" | "failed" = "open";

  constructor(
    readonly row: PreparedRow,
    /** Depth budget; `undefined` for the whole model. */
    readonly maxLayer: number | undefined,
    readonly arrived: number,
    /** Whether full depth is to be asked as well; never with a depth budget below it. */
    readonly isAudited: boolean,
  ) {
    this.length = row.ids.length;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever made the ticket awaits the answer; one that gave up must not bring the process down.
    this.answer.catch(() => undefined);
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Nobody waits for it any more, and it was not answered. */
  get hasFailed(): boolean {
    return this.#state === "failed";
  }

  resolve(answer: TAnswer): void {
    if (!this.isOpen) return;
    this.#state = "answered";
    this.#resolve(answer);
  }

  reject(reason: unknown): void {
    if (!this.isOpen) return;
    this.#state = "failed";
    this.#reject(reason);
  }
}
