/**
 * The state of a watched target: outages, and thresholds that are missed. Times are
 * those of a monotonic clock, in milliseconds, so that a set clock changes none. Pure.
 *
 * @module
 */
import type { Outage } from "../stats/loss_periods.ts";

/** A change of state that lasted for the hold time. */
export type Change =
  | { type: "down"; since: number; why: string }
  | { type: "up"; seconds: number; lost: number; why: string }
  | { type: "missed"; thresholds: readonly string[] }
  | { type: "met" };

/** An outage that may last. */
export type TargetOutage = Pick<Outage, "fromMs" | "toMs" | "datagrams">;

/** The listeners of a state. */
export interface StateListener {
  onChange(change: Change): void;
  /** Takes an outage that has ended. */
  onOutage(outage: TargetOutage): void;
}

/** Outages are counted and reported here and nowhere else. */
export class WatchState {
  state: "waiting" | "up" | "down" = "waiting";
  why = "";
  /** The thresholds that are missed, a sentence each. */
  missed: readonly string[] = [];
  outageCount = 0;
  #endedMs = 0;
  /** The datagrams of the lasting outage. */
  #datagrams = 0;
  #isDownReported = false;
  #isMissReported = false;
  /** When thresholds began to be missed, or met, other than reported. */
  #changedAt: number | undefined;

  constructor(
    /** When the state began. */
    public since: number,
    readonly holdMs: number,
    readonly listener: StateListener,
  ) {}

  /** The outage that lasts. */
  get lasting(): TargetOutage | undefined {
    return this.state !== "down" ? undefined : {
      fromMs: this.since,
      toMs: undefined,
      datagrams: this.#datagrams,
    };
  }

  /** The duration of all outages together. */
  outageMs(now: number): number {
    return this.#endedMs + (this.state === "down" ? now - this.since : 0);
  }

  /** An outage lasts since a time, with these datagrams by now. */
  goDown(at: number, why: string, datagrams: number): void {
    this.why = why;
    this.#datagrams = datagrams;
    if (this.state === "down") return;
    this.state = "down";
    this.since = at;
    this.outageCount++;
  }

  /** The target answers again, or for the first time. */
  goUp(at: number, datagrams = this.#datagrams): void {
    const { since, why } = this;
    if (this.state === "down") {
      this.end(at, datagrams);
      const isReported = this.#isDownReported;
      this.#isDownReported = false;
      if (isReported || at - since >= this.holdMs) {
        const { listener } = this;
        const seconds = (at - since) / 1000;
        if (!isReported) listener.onChange({ type: "down", since, why });
        listener.onChange({ type: "up", seconds, lost: datagrams, why });
      }
    }
    if (this.state !== "up") this.since = at;
    this.state = "up";
    this.why = "";
  }

  /** Ends the outage that lasts, if there is one, as the watch does. */
  end(at: number, datagrams = this.#datagrams): void {
    if (this.state !== "down") return;
    this.#endedMs += at - this.since;
    this.listener.onOutage({ fromMs: this.since, toMs: at, datagrams });
  }

  /** Reports what has lasted for the hold time. */
  look(now: number, missed: readonly string[]): void {
    const { since, why, holdMs, listener } = this;
    if (this.state === "down") {
      if (this.#isDownReported || now - since < holdMs) return;
      this.#isDownReported = true;
      return listener.onChange({ type: "down", since, why });
    }
    this.missed = missed;
    const isMissed = missed.length > 0;
    if (isMissed === this.#isMissReported) {
      this.#changedAt = undefined;
      return;
    }
    this.#changedAt ??= now;
    if (now - this.#changedAt >= holdMs) {
      this.#isMissReported = isMissed;
      listener.onChange(
        isMissed ? { type: "missed", thresholds: missed } : { type: "met" },
      );
    }
  }
}
