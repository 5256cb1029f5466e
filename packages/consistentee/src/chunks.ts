/** @file Groups what a source has ready, without making a slow source wait for a full group. */

/** Items that came together, and the source's failure after them. */
export interface Chunk<T> {
  readonly items: readonly T[];
  readonly failure?: { readonly cause: unknown };
}

type Pulled<T> = { readonly next: IteratorResult<T> } | { readonly cause: unknown };

/**
 * Groups of at most `size`; a group ends early when the next item is not there yet. A failing source, and a `signal` that
 * aborts, end the last group, so that what came before is not lost.
 */
export async function* chunks<T>(
  source: Iterable<T> | AsyncIterable<T>,
  size: number,
  signal?: AbortSignal,
): AsyncGenerator<Chunk<T>, void, undefined> {
  const iterator = iteratorOf(source);
  const pull = async (): Promise<Pulled<T>> => {
    try {
      return { next: await iterator.next() };
    } catch (cause) {
      return { cause };
    }
  };
  let pending: Promise<Pulled<T>> | undefined;
  let isOver = false;
  try {
    while (!isOver) {
      const items: T[] = [];
      while (items.length < size) {
        pending ??= pull();
        const pulled = await (items.length === 0
          ? orAborted(pending, signal)
          : Promise.race([pending, nextTurn()]));
        if (pulled === undefined) break;
        if (pulled !== ABORTED) pending = undefined;
        if ("cause" in pulled) {
          isOver = true;
          yield { items, failure: { cause: pulled === ABORTED ? signal?.reason : pulled.cause } };
          return;
        }
        if (pulled.next.done) {
          isOver = true;
          break;
        }
        items.push(pulled.next.value);
      }
      if (items.length > 0) yield { items };
    }
  } finally {
    // A generator that still waits for its own source answers `return` only afterwards: nobody waits for it here.
    if (!isOver || pending) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}

const ABORTED = { cause: undefined } as const;

/** The listener goes with each wait: one promise for the whole stream would remember every wait to its end. */
async function orAborted<T>(
  pending: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T | typeof ABORTED> {
  if (!signal) return pending;
  let stop: () => void = () => undefined;
  const abortion = new Promise<typeof ABORTED>((resolve) => {
    stop = () => resolve(ABORTED);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([pending, abortion]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function nextTurn(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(() => resolve(undefined)));
}

function iteratorOf<T>(source: Iterable<T> | AsyncIterable<T>): Iterator<T> | AsyncIterator<T> {
  return Symbol.asyncIterator in source
    ? source[Symbol.asyncIterator]()
    : source[Symbol.iterator]();
}
