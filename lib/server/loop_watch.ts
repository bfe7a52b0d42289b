/**
 * Finds out whether a peer sends of its own accord or only in answer to us,
 * in which case two servers may be answering each other for ever
 * (CVE-2024-2169). Pure: the caller passes in the clock and the timers.
 *
 * Payloads say nothing, since a loop may change them. What does is a pause of
 * our own: now and then the answers to a peer that goes on without a pause are
 * kept for a moment. What circulates in a loop then waits here, and nothing more
 * comes: the answers are dropped, and the loop has ended. A client goes on: its
 * answers are sent, a little late, and none is lost.
 *
 * A client that sends only when it is answered falls silent too. What tells it
 * from a loop is that it replaces what it lost. So where many are on their way,
 * and come fast, the silence is short: the answers that wait are counted, few of
 * them are dropped and the others sent. If as few are on their way when they are
 * counted again, all are dropped. A client with one on its way loses that one.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { RecentMap } from "../base/recent_map.ts";

/**
 * Handlers that know of some datagrams, by their content, that they are no part
 * of a loop: the answers to these never wait.
 */
export const noLoops: WeakMap<object, (data: Uint8Array) => boolean> =
  new WeakMap();

/** What the watch needs, and what it does with the answers that it kept. */
export interface LoopWatchOptions<T> {
  /** A monotonic clock, in milliseconds. */
  now(): number;
  /** Calls back after so many milliseconds; returns what cancels it. */
  after(ms: number, callback: () => void): () => void;
  /** The peer is a client: its answer goes out after all. */
  send(answer: T): void;
  /** The peer fell silent without answers: this one is not sent. */
  drop(answer: T): void;
}

/** Watches the answers to all peers of a server. */
export class LoopWatch<T> {
  readonly #options: LoopWatchOptions<T>;
  readonly #flows = new RecentMap<string, Flow<T>>(MAX_FLOWS);
  readonly #keeping = new Set<Flow<T>>();
  readonly #byObject = new WeakMap<UdpAddress, Flow<T>>();
  #lastRemote: UdpAddress | undefined;
  #last: Flow<T> | undefined;
  #keptBytes = 0;
  /** How many tests there are of peers that send fast. */
  #fast = 0;

  constructor(options: LoopWatchOptions<T>) {
    this.#options = options;
  }

  /** How many answers are kept. */
  get kept(): number {
    let kept = 0;
    for (const { test } of this.#keeping) kept += test!.answers.length;
    return kept;
  }

  /**
   * An answer to a peer is about to go out. Gives the test that it has to wait
   * for, if there is one: then {@linkcode LoopWatch.keep} takes it. Called once
   * for all answers to a datagram.
   *
   * @param remote The peer.
   * @param now When its request came, in milliseconds.
   * @param isOneOfMany Whether it gets more than one answer to a datagram.
   */
  test(
    remote: UdpAddress,
    now: number,
    isOneOfMany = false,
  ): Test<T> | undefined {
    const last = this.#lastRemote;
    const isLast = remote === last ||
      (remote.port === last?.port && remote.hostname === last.hostname);
    const flow = isLast ? this.#last! : this.#flowOf(remote, now);
    const gapMs = now - flow.at;
    flow.at = now;
    flow.getsMany ||= isOneOfMany;
    const { test } = flow;
    if (test === undefined) {
      if (gapMs > MAX_PAUSE_MS) begin(flow, now);
      else if (!flow.wasTested) noteGap(flow, gapMs);
      flow.wasTested = false;
      flow.untilTest--;
      if (flow.untilTest > 0 || now < flow.trustedUntil) return;
      if (!isRegular(flow.longGaps) || !this.#hasRoom(flow)) return;
      return this.#beginTest(flow, now);
    }
    test.at = this.#options.now();
    // Where each datagram makes several, a loop grows beyond any number.
    const isMore = !flow.getsMany && test.answers.length >= flow.mostKept;
    const longestMs = Math.max(1.25 * flow.longestGapMs, MIN_TEST_MS);
    if (!isMore && now - test.since <= longestMs) return test;
    // More than was on its way when the test began: it comes by itself.
    this.#endTest(flow, "send");
    trust(flow, now, MAX_TRUST);
    // As far as the first test goes, which keeps fewer.
    if (flow.mostKept === MAX_KEPT_FIRST) flow.trustedUntil = now;
    flow.mostKept = MAX_KEPT_LATER;
    return undefined;
  }

  /** Whether a test may begin now, beside those of other peers. */
  #hasRoom(flow: Flow<T>): boolean {
    if (this.#keptBytes > MAX_KEPT_BYTES / 2) return false;
    // Those that come fast take turns: else all clients stood still at once.
    const mostAtOnce = Math.max(1, this.#flows.size >> 4);
    return !isFast(flow) || this.#fast < mostAtOnce;
  }

  /**
   * Keeps an answer that has to wait, or does with it what the test says.
   *
   * @param test What it has to wait for.
   * @param answer The answer.
   * @param payloadBytes How many bytes it has.
   */
  keep(test: Test<T>, answer: T, payloadBytes: number): void {
    const bytes = payloadBytes + OVERHEAD_BYTES;
    const isFull = this.#keptBytes + bytes > MAX_KEPT_BYTES;
    const verdict = test.verdict ?? (isFull ? "drop" : undefined);
    if (verdict !== undefined) return this.#options[verdict](answer);
    test.answers.push(answer);
    test.bytes += bytes;
    this.#keptBytes += bytes;
  }

  /** Sends all that is kept, since the server is about to close. */
  release(): void {
    for (const flow of this.#keeping) this.#endTest(flow, "send");
  }

  #flowOf(remote: UdpAddress, now: number): Flow<T> {
    this.#lastRemote = remote;
    const known = this.#byObject.get(remote);
    if (known !== undefined) return this.#last = known;
    const key = `${remote.hostname} ${remote.port}`;
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      flow = {
        remote: undefined,
        at: now,
        longestGapMs: 0,
        longGaps: [],
        shortGaps: 0,
        untilTest: FIRST_TEST,
        trustedUntil: now + MIN_AGE_MS,
        trust: MIN_TRUST,
        mostOnTheWay: undefined,
        mostKept: MAX_KEPT_FIRST,
        getsMany: false,
        test: undefined,
        wasTested: false,
        cancel: () => {},
      };
      this.#flows.set(key, flow);
    }
    // Some engines give a peer the same object each time. Where they do not,
    // remembering all of them would cost more than the text of the address.
    if (flow.remote === remote) this.#byObject.set(remote, flow);
    flow.remote = remote;
    return this.#last = flow;
  }

  #beginTest(flow: Flow<T>, now: number): Test<T> {
    const test: Test<T> = {
      since: now,
      at: now,
      answers: [],
      bytes: 0,
      verdict: undefined,
    };
    flow.test = test;
    this.#keeping.add(flow);
    if (isFast(flow)) this.#fast++;
    const canCount = flow.longestGapMs <= COUNT_MS && !flow.getsMany;
    let seenAt: number | undefined;
    const look = () => {
      const now = this.#options.now();
      const onTheWay = test.answers.length;
      const counts = canCount &&
        (onTheWay > 1 || flow.mostOnTheWay !== undefined);
      const leastMs = counts ? COUNT_MS : MIN_TEST_MS;
      const leftMs = test.at + Math.max(2 * flow.longestGapMs, leastMs) - now;
      // A process that was busy may not have come yet to what is there: silence is
      // what two looks have seen.
      if (leftMs > 0 || test.at !== seenAt) {
        seenAt = test.at;
        const waitMs = Math.max(leftMs, SECOND_LOOK_MS);
        flow.cancel = this.#options.after(waitMs, look);
      } else this.#onSilence(flow, now, counts ? onTheWay : 0);
    };
    const firstMs = canCount ? COUNT_MS : MIN_TEST_MS;
    flow.cancel = this.#options.after(firstMs, look);
    return test;
  }

  /** Nothing more came; so many were on their way, 0 if they were not counted. */
  #onSilence(flow: Flow<T>, now: number, onTheWay: number): void {
    const { mostOnTheWay } = flow;
    if (mostOnTheWay === undefined && onTheWay > 1) {
      const dropped = Math.ceil(onTheWay * LOST_SHARE);
      this.#endTest(flow, "send", dropped);
      flow.mostOnTheWay = onTheWay - dropped;
      flow.trustedUntil = now + RECOVERY_MS;
      return;
    }
    const hasReplaced = mostOnTheWay !== undefined && onTheWay > mostOnTheWay;
    this.#endTest(flow, hasReplaced ? "send" : "drop");
    // If all is dropped, what comes now comes unasked, as from a client that tries
    // again.
    trust(flow, now, flow.trust);
    flow.trust = Math.min(10 * flow.trust, MAX_TRUST);
  }

  /** Ends a test; so many answers at its end are dropped whatever it says. */
  #endTest(flow: Flow<T>, verdict: "send" | "drop", dropped = 0): void {
    const test = flow.test!;
    flow.test = undefined;
    flow.wasTested = true;
    flow.cancel();
    this.#keeping.delete(flow);
    if (isFast(flow)) this.#fast--;
    this.#keptBytes -= test.bytes;
    test.verdict = verdict;
    const sent = test.answers.length - dropped;
    test.answers.forEach((answer, i) =>
      this.#options[i < sent ? verdict : "drop"](answer)
    );
  }
}

/** A pause in the answers to a peer. */
export interface Test<T> {
  /** When it began, and when there was an answer last. */
  since: number;
  at: number;
  /** What is kept. */
  answers: T[];
  /** How much memory that takes. */
  bytes: number;
  /** What became of them; undefined while it lasts. */
  verdict: "send" | "drop" | undefined;
}

/** One peer, by its address and port. */
interface Flow<T> {
  /** The object that its address was last. */
  remote: UdpAddress | undefined;
  /** When it was last heard of. */
  at: number;
  /** In a loop of few datagrams, its round-trip time. */
  longestGapMs: number;
  /** The latest long gaps, and how many shorter ones came since. */
  longGaps: number[];
  shortGaps: number;
  /** The next test is after so many answers, and not before. */
  untilTest: number;
  trustedUntil: number;
  /** For how many answers it is left alone after it fell silent. */
  trust: number;
  /**
   * How many can be on their way if it does not replace what it lost; undefined
   * if it lost nothing.
   */
  mostOnTheWay: number | undefined;
  /** How many answers a test keeps at most. */
  mostKept: number;
  /** Whether it gets several answers to a datagram. */
  getsMany: boolean;
  test: Test<T> | undefined;
  /** Whether nothing came since a test: that pause was our own. */
  wasTested: boolean;
  cancel: () => void;
}

/** Whether a peer sends so fast that its test is no longer than another's. */
function isFast<T>(flow: Flow<T>): boolean {
  return flow.longestGapMs <= MIN_TEST_MS / 2;
}

/** The peer made a pause: it begins anew. */
function begin<T>(flow: Flow<T>, now: number): void {
  flow.longestGapMs = 0;
  flow.longGaps = [];
  flow.untilTest = FIRST_TEST;
  flow.trustedUntil = now + MIN_AGE_MS;
  flow.trust = MIN_TRUST;
  flow.mostOnTheWay = undefined;
}

/** Leaves a peer alone for so many answers, and for the time that belongs to it. */
function trust<T>(flow: Flow<T>, now: number, answers: number): void {
  flow.mostOnTheWay = undefined;
  flow.untilTest = answers;
  flow.trustedUntil = now +
    Math.min(answers * TRUST_MS / MIN_TRUST, MAX_TRUST_MS);
}

function noteGap<T>(flow: Flow<T>, gapMs: number): void {
  if (gapMs > flow.longestGapMs) flow.longestGapMs = gapMs;
  if (gapMs > LONG_GAP_MS) {
    flow.shortGaps = 0;
    flow.longGaps.push(gapMs);
    if (flow.longGaps.length > REGULAR_GAPS) flow.longGaps.shift();
  } else if (++flow.shortGaps > MAX_KEPT_FIRST && flow.longGaps.length > 0) {
    flow.longGaps = [];
  }
}

/**
 * Whether long gaps are as those of a loop, which are its round-trip time. Where
 * a port serves one client after another, they are not.
 */
function isRegular(longGaps: number[]): boolean {
  return longGaps.length === 0 ||
    (longGaps.length === REGULAR_GAPS &&
      Math.min(...longGaps) > 0.6 * Math.max(...longGaps));
}

const LONG_GAP_MS = 200;
const REGULAR_GAPS = 4;
/** As many peers as are remembered. */
const MAX_FLOWS = 4096;
/** After so many answers, and no sooner than so long, comes the first test. */
const FIRST_TEST = 6;
const MIN_AGE_MS = 500;
/** Twice the longest round trip that a loop is expected to have. */
const MAX_PAUSE_MS = 10_000;
/** A test is at least so long, unless more comes than it keeps. */
const MIN_TEST_MS = 250;
/** So long is a silence in which answers are counted, at least. */
const COUNT_MS = 20;
const SECOND_LOOK_MS = 10;
/** Of those that are counted first such a share is dropped. */
const LOST_SHARE = 1 / 8;
/** So long after its loss has a client asked again, as most do after a second. */
const RECOVERY_MS = 1100;
const MAX_KEPT_FIRST = 64;
const MAX_KEPT_LATER = 255;
/** In all tests together, and about what an answer takes beside its payload. */
const MAX_KEPT_BYTES = 32 << 20;
const OVERHEAD_BYTES = 512;
/** How many answers a peer gets at least after a test, and for how long. */
const MIN_TRUST = 1000;
const MAX_TRUST = 100_000;
const TRUST_MS = 10_000;
const MAX_TRUST_MS = 60_000;
