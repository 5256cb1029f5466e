/**
 * @file Watches a serving model: a shadow audit of its early answers, the drift of its exits, and the fall-back to full
 * depth when one of them trips. T = layers.
 */
import { createRng } from "@cee/engine";
import { shareInterval } from "@cee/exit-policies";
import { ConsistentEEError } from "../errors.js";
import { stabilityIndex } from "./drift.js";
import { type AuditReport, announcer, type DriftReport, type ServingObserver } from "./events.js";

export interface AuditOptions {
  /** Share of the requests that also run to full depth, after they were answered. */
  readonly share: number;
  /** Audited requests per report. @default 200 */
  readonly window?: number;
  /**
   * Trips when the whole interval of a window's agreement lies below this.
   * @default 1 - maxLoss of the model's agreement guarantee, else nothing trips
   */
  readonly minAgreement?: number;
  /** Of the interval. @default 0.95 */
  readonly confidence?: number;
  /** Regression: largest difference that counts as agreement. @default 0.5 */
  readonly tolerance?: number;
  /** Chooses the audited requests. @default 0 */
  readonly seed?: number;
}

export interface DriftOptions {
  /** Requests per check. @default 1000 */
  readonly window?: number;
  /** Trips above this population stability index. @default 0.25 */
  readonly maxPsi?: number;
  /** Requests that left at layer 1, …, L in normal times. @default what was stored with the model's operating point */
  readonly reference?: readonly number[];
}

export interface FallbackOptions {
  /**
   * `manual` stays at full depth until `resetFallback()`; `automatic` goes back when a whole window of every check is
   * well again: agreement at `minAgreement`, drift at half of `maxPsi`.
   * @default "manual"
   */
  readonly recovery?: "manual" | "automatic";
}

export interface MonitorOptions {
  readonly observers?: readonly ServingObserver[];
  readonly audit?: AuditOptions;
  readonly drift?: DriftOptions;
  /** What happens when a check trips; `false` only reports. @default {} */
  readonly fallback?: FallbackOptions | false;
}

export interface Health {
  readonly state: "early-exit" | "full-depth";
  /** Why the model runs at full depth. */
  readonly reason: string | undefined;
  /** The last finished window. */
  readonly audit: AuditReport | undefined;
  readonly drift: DriftReport | undefined;
}

/** What the model knows that the options may leave open. */
export interface MonitorDefaults {
  readonly layers: number;
  readonly reference: readonly number[] | undefined;
  readonly minAgreement: number | undefined;
  /** Full depth was chosen with the model: nothing brings it back. */
  readonly fullDepthBecause: string | undefined;
}

export class Monitor {
  readonly announce: ReturnType<typeof announcer>;
  readonly #options: MonitorOptions;
  readonly #audit: Required<Omit<AuditOptions, "minAgreement">> | undefined;
  readonly #drift: { readonly window: number; readonly maxPsi: number } | undefined;
  readonly #rng = { next: () => 1 };
  #defaults: MonitorDefaults;
  #reason: string | undefined;
  #agreements: boolean[] = [];
  #histogram: number[] = [];
  #lastAudit: AuditReport | undefined;
  #lastDrift: DriftReport | undefined;
  /** Checks that a whole window since the fall-back found well. */
  readonly #well = new Set<"audit" | "drift">();

  /** @throws ConsistentEEError `BAD_OPTION` */
  constructor(options: MonitorOptions, defaults: MonitorDefaults) {
    this.#options = options;
    this.#defaults = defaults;
    this.announce = announcer(options.observers ?? []);
    const { audit, drift } = options;
    if (audit) {
      const { share, window = 200, confidence = 0.95, tolerance = 0.5, seed = 0 } = audit;
      this.#audit = { share, window, confidence, tolerance, seed };
      this.#rng = createRng(seed).fork("audit");
    }
    if (drift) this.#drift = { window: drift.window ?? 1000, maxPsi: drift.maxPsi ?? 0.25 };
    this.#check();
    this.#histogram = new Array<number>(defaults.layers).fill(0);
  }

  /** Whether requests run to full depth. */
  get isAtFullDepth(): boolean {
    return this.reason !== undefined;
  }

  get reason(): string | undefined {
    return this.#defaults.fullDepthBecause ?? this.#reason;
  }

  get health(): Health {
    return {
      state: this.isAtFullDepth ? "full-depth" : "early-exit",
      reason: this.reason,
      audit: this.#lastAudit,
      drift: this.#lastDrift,
    };
  }

  /** Draws whether the next request is audited. */
  draws(): boolean {
    return this.#audit !== undefined && this.#rng.next() < this.#audit.share;
  }

  /** A new operating point: what was counted for the old one is forgotten. */
  restart(defaults: MonitorDefaults): void {
    this.#defaults = defaults;
    this.#check();
    this.reset("another operating point was chosen");
    this.#forget();
    this.#lastAudit = undefined;
    this.#lastDrift = undefined;
  }

  /** Goes back to early exits. @returns whether anything changed */
  reset(reason = "reset by hand"): boolean {
    if (this.#reason === undefined) return false;
    this.#reason = undefined;
    this.#forget();
    // The next operating point may be full depth itself.
    if (!this.isAtFullDepth) this.announce("onFallback", { state: "early-exit", reason });
    return true;
  }

  /** Counts where the strategy let a request go. */
  countExit(layer: number): void {
    if (!this.#drift) return;
    this.#histogram[layer - 1] = (this.#histogram[layer - 1] as number) + 1;
    const rows = this.#histogram.reduce((sum, count) => sum + count, 0);
    if (rows < this.#drift.window) return;
    const { maxPsi } = this.#drift;
    const histogram = this.#histogram;
    this.#histogram = new Array<number>(histogram.length).fill(0);
    const psi = stabilityIndex(histogram, this.#reference() as readonly number[]);
    const hasTripped = psi > maxPsi;
    this.#lastDrift = { rows, psi, maxPsi, histogram, hasTripped };
    this.announce("onDriftReport", this.#lastDrift);
    if (hasTripped)
      this.#fallBack(
        `exit layers drifted: stability index ${psi.toFixed(3)} over ${rows} requests, above ${maxPsi}`,
        "drift",
      );
    else this.#recover("drift", psi <= maxPsi / 2);
  }

  /** Counts one audited request. */
  countAudit(exitLayer: number, early: number, full: number, isNumber: boolean): void {
    if (!this.#audit) return;
    const { window, confidence, tolerance } = this.#audit;
    // -1 is no class but a refused answer, which agrees with nothing; NaN does so by itself.
    const agrees = isNumber ? Math.abs(early - full) <= tolerance : early === full && full >= 0;
    this.announce("onAudit", { agrees, exitLayer, early, full });
    this.#agreements.push(agrees);
    const rows = this.#agreements.length;
    if (rows < window) return;
    const agreeing = this.#agreements.filter(Boolean).length;
    this.#agreements = [];
    const minAgreement = this.#minAgreement();
    const interval = shareInterval(agreeing, rows, confidence);
    const hasTripped = minAgreement !== undefined && interval.upper < minAgreement;
    const agreement = agreeing / rows;
    this.#lastAudit = {
      rows,
      agreeing,
      agreement,
      interval,
      confidence,
      minAgreement,
      hasTripped,
    };
    this.announce("onAuditReport", this.#lastAudit);
    if (hasTripped)
      this.#fallBack(
        `early answers agree with full depth in ${agreeing} of ${rows} audited requests, at most ${interval.upper.toFixed(3)} with confidence ${confidence}, below ${minAgreement}`,
        "audit",
      );
    else this.#recover("audit", minAgreement === undefined || agreement >= minAgreement);
  }

  #fallBack(reason: string, check: "audit" | "drift"): void {
    this.#well.delete(check);
    if (this.#options.fallback === false || this.isAtFullDepth) return;
    this.#reason = reason;
    // What was counted before says nothing about recovery.
    this.#forget();
    this.announce("onFallback", { state: "full-depth", reason });
  }

  #recover(check: "audit" | "drift", isWell: boolean): void {
    if (this.#reason === undefined || this.#options.fallback === false) return;
    if ((this.#options.fallback?.recovery ?? "manual") === "manual") return;
    if (isWell) this.#well.add(check);
    else this.#well.delete(check);
    const checks = [...(this.#audit ? ["audit"] : []), ...(this.#drift ? ["drift"] : [])];
    if (checks.every((one) => this.#well.has(one as "audit" | "drift")))
      this.reset(`a whole window of ${checks.join(" and ")} was well again`);
  }

  #forget(): void {
    this.#agreements = [];
    this.#histogram = new Array<number>(this.#defaults.layers).fill(0);
    this.#well.clear();
  }

  #reference(): readonly number[] | undefined {
    return this.#options.drift?.reference ?? this.#defaults.reference;
  }

  #minAgreement(): number | undefined {
    return this.#options.audit?.minAgreement ?? this.#defaults.minAgreement;
  }

  #check(): void {
    const audit = this.#audit;
    const minAgreement = this.#minAgreement();
    if (audit) {
      refuse("audit.share", "a share from 0 to 1", audit.share, isShare(audit.share));
      refuse("audit.window", "a whole number from 1", audit.window, isCount(audit.window));
      const { confidence } = audit;
      refuse(
        "audit.confidence",
        "a share above 0 and below 1",
        confidence,
        confidence > 0 && confidence < 1,
      );
      refuse(
        "audit.minAgreement",
        "a share from 0 to 1",
        minAgreement,
        minAgreement === undefined || isShare(minAgreement),
      );
      refuse("audit.tolerance", "a number from 0", audit.tolerance, audit.tolerance >= 0);
    }
    if (!this.#drift) return;
    const { window, maxPsi } = this.#drift;
    refuse("drift.window", "a whole number from 1", window, isCount(window));
    refuse("drift.maxPsi", "a number above 0", maxPsi, maxPsi > 0);
    const reference = this.#reference();
    const { layers } = this.#defaults;
    refuse(
      "drift.reference",
      `how many requests leave at each of ${layers} layers in normal times (selectThreshold stores it with the model)`,
      reference && `[${reference.join(", ")}]`,
      reference?.length === layers && reference.every((count) => count >= 0),
    );
  }
}

function refuse(name: string, wanted: string, got: unknown, isGood: boolean): void {
  if (isGood) return;
  throw new ConsistentEEError(
    "BAD_OPTION",
    name,
    `must be ${wanted}, got ${got ?? "nothing"}. Correct the option.`,
  );
}

function isShare(value: number): boolean {
  return value >= 0 && value <= 1;
}

function isCount(value: number): boolean {
  return Number.isInteger(value) && value >= 1;
}
