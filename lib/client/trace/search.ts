/**
 * The search for the hops of one flow: the probe to send next, the probe that an
 * answer is about, and the facts of each hop. Pure.
 *
 * @module
 */
import type { AnswerKind } from "../../socket/icmp.ts";
import type { Answer } from "../../socket/probe_sockets.ts";
import { Distribution } from "../../stats/distribution.ts";

/** A datagram with a limited TTL. Times are in milliseconds. */
export interface Probe {
  number: number;
  ttl: number;
  payload: Uint8Array;
  /** When it was sent, by the clock of the program and by the wall clock. */
  sentAt: number;
  wallAt: number;
  /** In flight, timed out, or sent again as its answer could be another probe's. */
  state: "pending" | "lost" | "void";
}

/** The outcome of a probe. */
export interface ProbeEvent {
  type: "probe";
  sourcePort: number;
  ttl: number;
  outcome: AnswerKind | "lost";
  from?: string;
  rttMs?: number;
  mark?: string;
  mtu?: number;
  trafficClass?: number;
}

/** The facts of a hop. */
export class Hop {
  /** The name of its address, where somebody has looked for it. */
  name: string | undefined;
  sent = 0;
  /** Probes answered in time; those in flight are neither received nor lost. */
  received = 0;
  /** Probes that the target answered in time, among the received. */
  reached = 0;
  lost = 0;
  /** The rounds before it was a hop of the path. */
  skipped = 0;
  readonly rtts: Distribution = new Distribution();
  /** The addresses that answered, the first one first. */
  readonly addresses: Set<string> = new Set();
  readonly kinds: Set<AnswerKind> = new Set();
  readonly marks: Set<string> = new Set();
  /** The traffic classes that were quoted: those with which probes arrived. */
  readonly trafficClasses: Set<number> = new Set();

  /** The number of probes that are received or lost. */
  get settled(): number {
    return this.received + this.lost;
  }

  get lossPercent(): number | undefined {
    return this.settled > 0 ? 100 * this.lost / this.settled : undefined;
  }

  /** Loss between here and the target, if this is the target's hop. */
  get pathLossPercent(): number | undefined {
    const { reached, settled } = this;
    return settled > 0 ? 100 * (settled - reached) / settled : undefined;
  }

  get isTarget(): boolean {
    return this.kinds.has("reply") || this.kinds.has("closed");
  }

  /** Whether all answers are refusals. */
  get isRefusal(): boolean {
    return this.kinds.has("unreachable") && this.kinds.size === 1;
  }

  /** Adds the facts of another flow's hop. */
  add(other: Hop): void {
    this.name ??= other.name;
    for (const key of ["sent", "received", "reached", "lost"] as const) {
      this[key] += other[key];
    }
    this.rtts.addAll(other.rtts, 0);
    for (
      const key of ["addresses", "kinds", "marks", "trafficClasses"] as const
    ) {
      for (const value of other[key]) (this[key] as Set<unknown>).add(value);
    }
  }
}

/** A router's report of the MTU of its next link. */
export interface MtuReport {
  mtu: number;
  from: string;
}

/**
 * The facts that flows share. Their probes to one hop have one pace: {@linkcode BURST}
 * at once, and then one in each interval, since Linux sends a host at most one ICMP
 * message a second, after six at once.
 */
export class HopPace {
  /** The largest TTL at which a path ends; 0 if none is known. */
  end = 0;
  readonly #intervalMs: number;
  readonly #free = new Map<number, { tokens: number; at: number }>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Whether a probe may be sent now; counts it. */
  take(ttl: number, now: number): boolean {
    if (this.#intervalMs === 0) return true;
    const { tokens, at } = this.#free.get(ttl) ?? { tokens: BURST, at: now };
    const left = Math.min(BURST, tokens + (now - at) / this.#intervalMs);
    if (left < 1) return false;
    this.#free.set(ttl, { tokens: left - 1, at: now });
    return true;
  }

  /** Notes the end of a path, and counts probes beyond it as probes to it. */
  endAt(ttl: number, probes: number): void {
    this.end = Math.max(this.end, ttl);
    const found = this.#free.get(ttl);
    if (found !== undefined) found.tokens -= probes;
  }
}

/** The rules of a search. */
export interface SearchOptions {
  sourcePort: number;
  /** The address of the target. */
  target: string;
  maxTtl: number;
  /** The number of probes to each hop. */
  count: number;
  timeoutMs: number;
  /** The user's payload, which has no number. */
  payload?: Uint8Array | undefined;
  /** The size of payloads of this program's own. */
  size: number;
  /** The bytes of the headers. */
  headers: number;
  /** The first bytes of its payloads, at random. */
  token: number;
}

/** The search of one flow. */
export class Search {
  readonly options: SearchOptions;
  /** The hops, that of TTL 1 first. */
  readonly #hops: Hop[] = [];
  readonly mtuReports: MtuReport[] = [];
  /** The largest TTL that a router has reported as used up. */
  #expired = 0;
  readonly #pace: HopPace;
  readonly #probes = new Map<number, Probe>();
  readonly #inFlight = new Set<Probe>();
  #number = 0;
  /** The rounds that a hop skips which is found now. */
  #base = 0;
  #size: number;
  #window: number;
  /** No probe leaves before, as answers to earlier ones may still arrive. */
  #quietUntil = -Infinity;
  /** When a TTL was first tried. */
  #steppedAt = -Infinity;

  constructor(options: SearchOptions, pace: HopPace) {
    this.options = options;
    this.#pace = pace;
    this.#size = options.payload?.length ?? options.size;
    this.#window = this.#isNumbered ? WINDOW : 1;
  }

  /** Whether the target answered, by a reply or as its port is closed. */
  get isReached(): boolean {
    return this.#hops[(this.#end ?? 0) - 1]?.isTarget ?? false;
  }

  /** The hops that were probed, with the silent ones behind those that answer. */
  get hops(): Hop[] {
    const hops = this.#hops.slice(0, this.#limit);
    return hops.slice(0, hops.findLastIndex(({ sent }) => sent > 0) + 1);
  }

  /** Whether each hop up to the end has an outcome. */
  get isTraced(): boolean {
    const { hops } = this;
    return hops.length === this.#limit &&
      hops.every(({ settled }) => settled > 0);
  }

  /** The smallest number of rounds of a hop. */
  get round(): number {
    const hops = this.#hops.slice(0, this.#limit);
    return hops.length < this.#limit ? this.#base : roundOf(hops);
  }

  get isOver(): boolean {
    return this.round >= this.options.count && this.#inFlight.size === 0;
  }

  /** The largest TTL that is tried: the end, or a few beyond the last that answers. */
  get #limit(): number {
    const end = this.#end ?? this.#expired + MAX_SILENT;
    return Math.min(this.options.maxTtl, end);
  }

  /**
   * The TTL at which the path ends: at the target, or else where each answer is a
   * refusal. A TTL that was used up is none, however often the target answered.
   */
  get #end(): number | undefined {
    const open = this.#hops.slice(this.#expired);
    const target = open.findIndex(({ isTarget }) => isTarget);
    const refusal = open.findIndex(({ isRefusal }) => isRefusal);
    const end = target === -1 ? refusal : target;
    return end === -1 ? undefined : this.#expired + end + 1;
  }

  get #isNumbered(): boolean {
    return this.options.payload === undefined && this.#size >= NUMBER_BYTES;
  }

  /** The next probe to a hop with this number of probes so far, if one is due. */
  take(now: number, round: number): Probe | undefined {
    if (now < this.#quietUntil || this.#inFlight.size >= this.#window) return;
    const [limit, skipped, isOpen] = [this.#limit, this.#base, !this.#end];
    // Where another flow's path ends, this one's probably does.
    const likely = Math.max(this.#pace.end || limit, this.#expired + 1);
    for (let ttl = 1; ttl <= limit; ttl++) {
      const hop = this.#hops[ttl - 1] ??= Object.assign(new Hop(), { skipped });
      if (hop.skipped + hop.sent !== round) continue;
      // Few probes then reach the target with a larger TTL than they need.
      const isBeyond = isOpen && ttl > this.#expired;
      if (isBeyond && hop.sent > hop.settled) continue;
      const isUnlikely = isOpen && ttl > likely;
      if (isUnlikely && this.#hops[likely - 1]!.settled === 0) return;
      const isStep = hop.sent === 0 && ttl > this.#expired + 1;
      if (isStep && now - this.#steppedAt < STEP_MS) return;
      if (!this.#pace.take(ttl, now)) {
        if (isBeyond) return;
        continue;
      }
      if (hop.sent === 0) this.#steppedAt = now;
      hop.sent++;
      const probe = this.#makeProbe(ttl, now);
      this.#inFlight.add(probe);
      return probe;
    }
  }

  #makeProbe(ttl: number, now: number): Probe {
    const number = this.#number++;
    const size = this.#size;
    const payload = this.options.payload?.subarray(0, size) ??
      numbered(size, this.options.token, number);
    const times = { sentAt: now, wallAt: 0 };
    const probe: Probe = { number, ttl, payload, ...times, state: "pending" };
    this.#probes.set(number, probe);
    this.#probes.delete(number - MAX_KEPT);
    return probe;
  }

  /** Counts an answer; gives the outcome of its probe, if that is known. */
  answer(answer: Answer, now: number): ProbeEvent | undefined {
    const probe = this.#probeOf(answer, now);
    if (probe === undefined) return;
    const { ttl } = probe;
    const { kind, from, mark, mtu, trafficClass } = answer;
    if (kind === "too-big") this.shrink(answer);
    // Else the router demands a smaller one than it takes.
    if (kind === "too-big" && probe.payload.length <= this.#size) return;
    const hop = this.#hops[ttl - 1]!;
    const isLate = probe.state === "lost";
    if (probe.state === "void") hop.sent++;
    this.#probes.delete(probe.number);
    this.#inFlight.delete(probe);
    const seenMs = now - probe.sentAt;
    const kernelMs = answer.at - probe.wallAt;
    // The wall clock may have been set meanwhile.
    const isPlausible = kernelMs >= 0 && kernelMs <= seenMs + 1;
    const rttMs = isPlausible ? kernelMs : seenMs;
    const facts = { outcome: kind, from, rttMs, ...mark && { mark } };
    const event: ProbeEvent = {
      ...{ type: "probe", sourcePort: this.options.sourcePort, ttl, ...facts },
      ...mtu !== undefined && { mtu },
      ...trafficClass !== undefined && { trafficClass },
    };
    if (kind === "too-big") {
      // It is sent again, smaller.
      hop.sent--;
      if (isLate) hop.lost--;
      return event;
    }
    const end = this.#end;
    // A hop's own address is before those of routers that refused probes to it.
    const isFirst = hop.isRefusal && kind !== "unreachable";
    const refusers = isFirst ? [...hop.addresses] : [];
    if (isFirst) hop.addresses.clear();
    for (const address of [from, ...refusers]) hop.addresses.add(address);
    hop.kinds.add(kind);
    if (mark !== undefined) hop.marks.add(mark);
    if (trafficClass !== undefined) hop.trafficClasses.add(trafficClass);
    if (kind === "expired") this.#expired = Math.max(this.#expired, ttl);
    this.#noteEnd(end);
    if (isLate) return;
    hop.received++;
    if (kind === "reply" || kind === "closed") hop.reached++;
    hop.rtts.add(rttMs);
    return event;
  }

  /** Times out; gives the outcomes. */
  *expire(now: number): Generator<ProbeEvent> {
    const { sourcePort, timeoutMs } = this.options;
    for (const probe of this.#inFlight) {
      if (now - probe.sentAt < timeoutMs) continue;
      probe.state = "lost";
      this.#hops[probe.ttl - 1]!.lost++;
      this.#inFlight.delete(probe);
      yield { type: "probe", sourcePort, ttl: probe.ttl, outcome: "lost" };
    }
  }

  /** Notes a report of an MTU, and makes later probes as small as it demands. */
  shrink({ mtu = 0, from }: Pick<Answer, "mtu" | "from">): void {
    const { headers } = this.options;
    const isKnown = this.mtuReports.some((one) =>
      one.mtu === mtu && one.from === from
    );
    if (mtu < headers || isKnown) return;
    this.mtuReports.push({ mtu, from });
    this.#size = Math.min(this.#size, mtu - headers);
  }

  /** Notes a first end of the path, or one that is farther than before. */
  #noteEnd(before: number | undefined): void {
    const end = this.#end;
    if (before === undefined && end !== undefined) {
      const beyond = this.#hops.slice(end).map(({ sent }) => sent);
      this.#pace.endAt(end, beyond.reduce((sum, sent) => sum + sent, 0));
    }
    if (before === undefined || (end ?? Infinity) <= before) return;
    // New hops need a few probes, not all that the others have had.
    this.#base = Math.max(0, roundOf(this.#hops.slice(0, before)) - BURST);
    for (const hop of this.#hops.slice(before)) {
      hop.skipped = Math.max(0, this.#base - hop.sent);
    }
  }

  /**
   * The probe of an answer, by the number in it. A router that quotes nothing of the
   * payload, or a server that does not echo, leaves only the order: that is used where
   * all probes in flight that it can be about have one TTL. Else they are sent again,
   * and from then on with one in flight.
   */
  #probeOf(answer: Answer, now: number): Probe | undefined {
    const { data, kind } = answer;
    if (this.#isNumbered) {
      const number = numberIn(data, this.options.token);
      if (number !== undefined) return this.#probes.get(number);
      // It is about another program's datagram from this port.
      if (kind !== "reply" && data.length >= NUMBER_BYTES) return;
    }
    const candidates = [...this.#inFlight].filter((probe) =>
      this.#canBeOf(answer, probe)
    );
    const [first] = candidates;
    if (candidates.every(({ ttl }) => ttl === first!.ttl)) return first;
    this.#window = 1;
    this.#quietUntil = now + this.options.timeoutMs;
    for (const probe of this.#inFlight) {
      probe.state = "void";
      this.#hops[probe.ttl - 1]!.sent--;
    }
    this.#inFlight.clear();
  }

  #canBeOf({ kind, from }: Answer, { ttl, number }: Probe): boolean {
    if (kind === "reply" || kind === "closed") return ttl > this.#expired;
    const isOf = (ttl: number) => this.#hops[ttl - 1]!.addresses.has(from);
    if (this.#window === 1) {
      // Else it is a late answer to the probe before.
      const before = this.#probes.get(number - 1);
      return before?.state !== "lost" || !isOf(before.ttl) || isOf(ttl);
    }
    const known = this.#hops.findIndex(({ addresses }) => addresses.has(from));
    if (known !== -1) return ttl === known + 1;
    return this.#hops[ttl - 1]!.addresses.size === 0 && ttl <= this.#limit;
  }
}

/** The smallest number of rounds of hops. */
function roundOf(hops: readonly Hop[]): number {
  return Math.min(...hops.map(({ skipped, sent }) => skipped + sent));
}

/** A payload that begins with a token and a number, if there is room. */
export function numbered(
  size: number,
  token: number,
  number: number,
): Uint8Array {
  const payload = new Uint8Array(size);
  if (size < NUMBER_BYTES) return payload;
  const view = new DataView(payload.buffer);
  view.setUint32(0, token);
  view.setUint32(4, number);
  return payload;
}

/** The number in a payload, if it has the token. */
export function numberIn(data: Uint8Array, token: number): number | undefined {
  if (data.length < NUMBER_BYTES) return undefined;
  const view = new DataView(data.buffer, data.byteOffset);
  return view.getUint32(0) === token ? view.getUint32(4) : undefined;
}

export const NUMBER_BYTES = 8;
/** The most probes of a flow in flight. */
const WINDOW = 16;
/** The probes that a hop gets at once. */
export const BURST = 5;
/** The silent hops in a row, behind the last that answered, that end a search. */
const MAX_SILENT = 5;
/** The time until the next TTL is tried without an answer from the one before. */
const STEP_MS = 30;
/** The probes of which a late answer is recognized. */
const MAX_KEPT = 4096;
