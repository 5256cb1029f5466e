/** @file What a serving model tells those who watch it. */

/** One request that has ended. */
export interface RequestEvent {
  readonly outcome: "answered" | "failed" | "aborted";
  /** Layer that answered, counted from 1; `undefined` without an answer. */
  readonly exitLayer: number | undefined;
  /** Layer at which the strategy let the request go, whether or not it was followed; `undefined` where it never did. */
  readonly strategyLayer: number | undefined;
  /** Layers of the whole model. */
  readonly layers: number;
  /** From the call until the answer. */
  readonly milliseconds: number;
  /** Of those, waiting for the device. */
  readonly queueMilliseconds: number;
  /** Requests that ran together. */
  readonly batchSize: number;
  /** Tokens, special ones included. */
  readonly tokens: number;
  readonly truncated: boolean;
  /** Name of the class, where there is an answer. */
  readonly label: string | undefined;
  /** Whether the model had fallen back to full depth. */
  readonly atFullDepth: boolean;
  readonly error: unknown;
}

/** One request whose early answer was compared with full depth's. */
export interface AuditEvent {
  readonly agrees: boolean;
  readonly exitLayer: number;
  readonly early: number;
  readonly full: number;
}

/** A finished window of audited requests. */
export interface AuditReport {
  readonly rows: number;
  readonly agreeing: number;
  readonly agreement: number;
  /** Exact (Clopper-Pearson) interval of the agreement. */
  readonly interval: { readonly lower: number; readonly upper: number };
  readonly confidence: number;
  /** `undefined`: reported only. */
  readonly minAgreement: number | undefined;
  readonly hasTripped: boolean;
}

/** A finished window of exit layers, against the distribution stored with the model. */
export interface DriftReport {
  readonly rows: number;
  /** Population stability index: 0 for equal distributions. */
  readonly psi: number;
  readonly maxPsi: number;
  /** Requests that left at layer 1, …, L. */
  readonly histogram: readonly number[];
  readonly hasTripped: boolean;
}

export interface FallbackEvent {
  readonly state: "full-depth" | "early-exit";
  readonly reason: string;
}

/** Functions that are told; one that throws is reported once as a process warning and harms no request. */
export interface ServingObserver {
  onRequest?(event: RequestEvent): void;
  onAudit?(event: AuditEvent): void;
  onAuditReport?(report: AuditReport): void;
  onDriftReport?(report: DriftReport): void;
  onFallback?(event: FallbackEvent): void;
}

/** Tells all observers; a broken one is warned about once. */
export function announcer(observers: readonly ServingObserver[]) {
  let hasWarned = false;
  return <K extends keyof ServingObserver>(
    hook: K,
    event: Parameters<NonNullable<ServingObserver[K]>>[0],
  ): void => {
    for (const observer of observers)
      try {
        (observer[hook] as ((event: unknown) => void) | undefined)?.call(observer, event);
      } catch (cause) {
        if (hasWarned) continue;
        hasWarned = true;
        process.emitWarning(
          `[EarlyExitModel] the observer's ${hook} threw: ${cause instanceof Error ? cause.message : String(cause)}. Its errors are ignored from now on.`,
          { code: "CEE_OBSERVER" },
        );
      }
  };
}
