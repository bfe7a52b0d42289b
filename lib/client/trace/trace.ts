/**
 * Traces the paths to a target by UDP datagrams with a limited TTL, all those of a
 * flow with the same addresses, ports and flow label (as Paris traceroute has it).
 *
 * @module
 */
import {
  formatAddress,
  ipVersion,
  isMulticast,
  type UdpAddress,
} from "../../address.ts";
import * as option from "../../base/options.ts";
import { type Answer, ProbeSockets } from "../../socket/probe_sockets.ts";
import { MAX_PAYLOAD } from "../../socket/contract.ts";
import { runtimeOf } from "../../socket/runtime.ts";
import {
  checkEnds,
  maxPayload,
  ORIGIN,
  type OriginOptions,
  resolveEnds,
} from "../target.ts";
import { type Path, pathsOf } from "./paths.ts";
import {
  BURST,
  HopPace,
  NUMBER_BYTES,
  numbered,
  numberIn,
  type ProbeEvent,
  Search,
  type SearchOptions,
} from "./search.ts";

/** Options of a trace; `ttl` is the largest one, `localPort` the first. */
export interface TraceOptions extends OriginOptions {
  /** The number of flows, each with a source port of its own. */
  flows?: number | undefined;
  /** The number of probes to each hop, of each flow. */
  count?: number | undefined;
  /** The time between the probes to one hop, of all flows, after a few at once. */
  intervalMs?: number | undefined;
  /** The time after which a probe without an answer is lost. */
  timeoutMs?: number | undefined;
  /** The time after which the trace ends with the hops found. */
  deadlineMs?: number | undefined;
  /** The payload; without one each probe has its number. */
  payload?: Uint8Array | undefined;
  /** The size of payloads with numbers. */
  size?: number | undefined;
}

const TRACE = {
  ...ORIGIN,
  ttl: option.integer(1, 255, 30),
  flows: option.integer(1, 64, 1),
  count: option.orInfinity(option.integer(1, 1_000_000_000, 3)),
  intervalMs: option.time(0, 1000),
  timeoutMs: option.time(1, 1000),
  deadlineMs: option.time(1),
  payload: option.object<Uint8Array>(),
  size: option.integer(0, MAX_PAYLOAD, 32),
} satisfies option.Table<TraceOptions>;

/** A trace; iterate it to run it. */
export class Trace {
  /** The target's address, once its name is resolved. */
  target: UdpAddress | undefined;
  sent = 0;
  /** Whether reports have the quoted traffic class. */
  seesHeaders = true;
  readonly #named;
  readonly #options: option.Values<typeof TRACE>;
  #searches: Search[] = [];
  /** The MTU to which the target answered, by the flow's port. */
  readonly #mtus = new Map<number, number | null>();
  #isStopped = false;

  /** Checks the options; throws as a request does. */
  constructor(address: UdpAddress, options: TraceOptions) {
    const values = option.readAll("trace", TRACE, options);
    const { payload, size } = this.#options = values;
    this.#named = checkEnds(address, values, payload?.length ?? size);
  }

  /** Ends the trace with what is known by then. */
  stop(): void {
    this.#isStopped = true;
  }

  /** The paths of the flows that are traced by now; if none is, that of the first. */
  get paths(): Path[] {
    const traced = this.#searches.filter(({ isTraced }) => isTraced);
    const shown = traced.length > 0 ? traced : this.#searches.slice(0, 1);
    return pathsOf(shown.map((search) => ({
      sourcePorts: [search.options.sourcePort],
      hops: search.hops,
      isReached: search.isReached,
      mtuReports: search.mtuReports,
      mtu: this.#mtus.get(search.options.sourcePort),
    })));
  }

  /** The number of flows without an outcome of each hop. */
  get untraced(): number {
    return this.#searches.filter(({ isTraced }) => !isTraced).length;
  }

  /** The shortest time until each hop has all its probes, in milliseconds. */
  get paceMs(): number {
    const { flows, count, intervalMs } = this.#options;
    return Math.max(0, flows * count - BURST) * intervalMs;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ProbeEvent> {
    const { flows, intervalMs, deadlineMs, localPort } = this.#options;
    const runtime = runtimeOf(this.#options);
    const { target, local } = await resolveEnds(this.#named, runtime);
    if (isMulticast(target.hostname)) {
      const shown = formatAddress(target);
      throw new TypeError(`Cannot trace ${shown}: it is a multicast group`);
    }
    this.target = target;
    const ports = Array.from(
      { length: flows },
      (_, i) => localPort && localPort + i,
    );
    const sockets = new ProbeSockets(target, local, ports);
    this.seesHeaders = sockets.seesHeaders;
    const pace = new HopPace(intervalMs);
    this.#searches = sockets.ports.map((sourcePort) =>
      new Search(this.#rulesOf(sourcePort, target), pace)
    );
    const timer = deadlineMs && setTimeout(() => this.stop(), deadlineMs);
    try {
      yield* this.#findHops(sockets);
      // Flows of one path share its MTU.
      for (const { sourcePorts: [port], isReached } of this.paths) {
        if (!isReached) continue;
        const flow = sockets.ports.indexOf(port!);
        const mtu = await this.#findMtu(sockets, flow);
        if (!this.#isStopped) this.#mtus.set(port!, mtu ?? null);
      }
    } finally {
      clearTimeout(timer);
      sockets.close();
    }
  }

  #rulesOf(sourcePort: number, { hostname }: UdpAddress): SearchOptions {
    const { count, timeoutMs, payload, size, ttl } = this.#options;
    return {
      ...{ sourcePort, count, timeoutMs, payload, size, maxTtl: ttl },
      target: hostname,
      headers: ipVersion(hostname) === 6 ? 48 : 28,
      token: Math.floor(Math.random() * 2 ** 32),
    };
  }

  async *#findHops(sockets: ProbeSockets): AsyncGenerator<ProbeEvent> {
    const searches = this.#searches;
    while (!this.#isStopped && searches.some(({ isOver }) => !isOver)) {
      // What has arrived is no time-out, however late this turn is.
      for (const { flow, answer } of sockets.take()) {
        const event = searches[flow]!.answer(answer, performance.now());
        if (event !== undefined) yield event;
      }
      for (const search of searches) yield* search.expire(performance.now());
      this.#sendDue(sockets);
      await sleep();
    }
  }

  /** Sends the probes that are due, those of hops with the fewest so far first. */
  #sendDue(sockets: ProbeSockets): void {
    const searches = this.#searches;
    const first = Math.min(...searches.map(({ round }) => round));
    const last = Math.min(this.#options.count, first + MAX_ROUNDS);
    for (let round = first; round < last; round++) {
      for (const [flow, search] of searches.entries()) {
        let probe;
        while ((probe = search.take(performance.now(), round))) {
          const { payload, ttl } = probe;
          probe.wallAt = sockets.send(flow, payload, ttl);
          this.sent++;
        }
      }
    }
  }

  /**
   * Sends datagrams of full size, the next one as small as a router demands; gives
   * the MTU if the target answers, undefined if it is silent.
   */
  async #findMtu(
    sockets: ProbeSockets,
    flow: number,
  ): Promise<number | undefined> {
    const search = this.#searches[flow]!;
    const { headers, token, target, maxTtl } = search.options;
    let size = maxPayload(target);
    let number = FIRST_OF_MTU;
    for (let tries = 2; tries > 0 && !this.#isStopped;) {
      let most: number | undefined;
      try {
        sockets.send(flow, numbered(size, token, ++number), maxTtl);
        this.sent++;
      } catch (error) {
        // Of the link; without it the datagram was dropped on this machine.
        most = (error as { mtu?: number }).mtu;
        if (most === undefined) return undefined;
      }
      if (most === undefined) {
        const answer = await this.#answerTo(number, sockets, flow);
        if (answer === undefined) {
          tries--;
          continue;
        }
        const { kind, mtu } = answer;
        if (kind === "reply" || kind === "closed") return size + headers;
        if (kind !== "too-big" || mtu === undefined) return undefined;
        search.shrink(answer);
        most = mtu;
      }
      const smaller = most - headers;
      if (smaller < NUMBER_BYTES || smaller >= size) return undefined;
      size = smaller;
    }
  }

  /** The answer to the latest datagram of full size; undefined after the time-out. */
  async #answerTo(
    number: number,
    sockets: ProbeSockets,
    flow: number,
  ): Promise<Answer | undefined> {
    const { token, timeoutMs } = this.#searches[flow]!.options;
    const until = performance.now() + timeoutMs;
    while (performance.now() < until && !this.#isStopped) {
      await sleep();
      for (const { flow: other, answer } of sockets.take()) {
        const { kind, data } = answer;
        // A reply, or a report without the payload, is about the latest.
        const isOpen = kind === "reply" || data.length < NUMBER_BYTES;
        const found = numberIn(data, token) ?? (isOpen && number);
        if (other === flow && found === number) return answer;
      }
    }
  }
}

/** Waits for answers: kernel stamps make RTTs independent of this time. */
function sleep(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, TICK_MS));
}

const TICK_MS = 2;
/** The number before those of datagrams of full size, beyond those of probes. */
const FIRST_OF_MTU = 2 ** 31;
/** Probes of a hop that may leave together are a few. */
const MAX_ROUNDS = 5;
