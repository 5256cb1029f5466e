/** @file Runs one batch of requests: each is answered as soon as its row leaves. */
import { type TokenBatch, toBatch } from "@cee/backbone";
import { classify, type ExitRunner, type ExitStrategy, type RowAnswer } from "@cee/exit-policies";
import type { SingleExits } from "./single-exits.js";
import type { Ticket } from "./ticket.js";

export interface BatchContext<TAnswer> {
  readonly runner: ExitRunner<TokenBatch>;
  /** For a request that is alone and wants nothing but an answer; `undefined` to go layer by layer. */
  readonly single: SingleExits | undefined;
  readonly strategy: ExitStrategy;
  readonly padId: number;
  /** Answers wait for full depth. */
  readonly atFullDepth: boolean;
  /** Makes a request's answer; what it throws is that request's alone. */
  toAnswer(ticket: Ticket<TAnswer>, answer: RowAnswer): TAnswer;
  /** Told when a request was answered or failed. */
  onSettled(ticket: Ticket<TAnswer>, answer: RowAnswer | undefined, error: unknown): void;
  /** Told both answers of an audited request. */
  onCompared(ticket: Ticket<TAnswer>, early: RowAnswer, full: RowAnswer): void;
}

/**
 * Settles every request of the batch. When a batch fails, those without an answer run again one by one, so that one
 * request's fault is not the others'.
 */
export async function runBatch<TAnswer>(
  tickets: readonly Ticket<TAnswer>[],
  context: BatchContext<TAnswer>,
): Promise<void> {
  const { runner, strategy, padId, atFullDepth } = context;
  const { depth } = runner.shape;
  const started = performance.now();
  for (const ticket of tickets) {
    // A second attempt keeps the start of the first.
    ticket.started ||= started;
    ticket.batchSize = tickets.length;
    ticket.left = undefined;
  }
  const at = (row: number) => tickets[row] as Ticket<TAnswer>;
  const batch = toBatch(
    tickets.map(({ row }) => row),
    { padId },
  );
  try {
    if (isPlain(tickets, context)) {
      if (at(0).hasFailed) return;
      const answer = await (context.single as SingleExits).answer(batch, strategy);
      if (answer.layer < depth) at(0).left = answer;
      settle(at(0), answer, context);
      return;
    }
    await classify(runner, batch, strategy, {
      rows: {
        maxLayer: (row) => at(row).maxLayer,
        isAbandoned: (row) => at(row).hasFailed,
        onVerdict(row, answer) {
          const ticket = at(row);
          ticket.left = answer;
          if (atFullDepth) return "hold";
          return ticket.isAudited ? "compare" : "leave";
        },
        onExit(row, answer) {
          const ticket = at(row);
          settle(ticket, answer, context);
          // Full depth is known at no cost; what was held back, or nothing, is compared with it.
          if (answer.layer === depth && (ticket.isAudited || atFullDepth))
            context.onCompared(ticket, ticket.left ?? answer, answer);
        },
        onFullDepth(row, answer) {
          const ticket = at(row);
          context.onCompared(ticket, ticket.left as RowAnswer, answer);
        },
      },
    });
  } catch (error) {
    const left = tickets.filter(({ isOpen }) => isOpen);
    if (tickets.length > 1) for (const ticket of left) await runBatch([ticket], context);
    else for (const ticket of left) fail(ticket, error, context);
  }
}

/** Whether one graph can do what is asked: it tells nothing of a row before its end, and knows no depth but its own. */
function isPlain<TAnswer>(
  tickets: readonly Ticket<TAnswer>[],
  { single, strategy, atFullDepth, runner }: BatchContext<TAnswer>,
): boolean {
  const [ticket] = tickets as [Ticket<TAnswer>];
  return (
    tickets.length === 1 &&
    !atFullDepth &&
    !ticket.isAudited &&
    (ticket.maxLayer ?? runner.shape.depth) >= runner.shape.depth &&
    single?.decides(strategy) === true
  );
}

function settle<TAnswer>(
  ticket: Ticket<TAnswer>,
  answer: RowAnswer,
  context: BatchContext<TAnswer>,
): void {
  if (!ticket.isOpen) return;
  let made: TAnswer;
  try {
    made = context.toAnswer(ticket, answer);
  } catch (error) {
    fail(ticket, error, context);
    return;
  }
  ticket.resolve(made);
  context.onSettled(ticket, answer, undefined);
}

function fail<TAnswer>(
  ticket: Ticket<TAnswer>,
  error: unknown,
  context: BatchContext<TAnswer>,
): void {
  ticket.reject(error);
  context.onSettled(ticket, undefined, error);
}
