import { assert, assertEquals } from "@std/assert";
import { SenderSession } from "../../lib/stamp/sender_session.ts";
import {
  encodeReflector,
  encodeSender,
  timestampOf,
} from "../../lib/stamp/packet.ts";
import { aboveMinimum, summarize } from "../../lib/stats/statistics.ts";
import { TIME_ORIGIN } from "../../lib/testing/mod.ts";

const errorEstimate = {
  synchronized: false,
  ptp: false,
  scale: 0,
  multiplier: 1,
};

/** Fields of a reply that a test sets. */
interface ReplyFields {
  number?: number;
  tookMs?: number;
  /** The offset of the reflector's clock. */
  aheadMs?: number;
  ptp?: boolean;
}

const TIMEOUT_MS = 1000;

function planOf(capacity: number) {
  return { capacity, timeoutMs: TIMEOUT_MS, size: 44 };
}

/** Takes unanswered requests for lost that were sent by a time, and gives them. */
function expire(session: SenderSession, sentBy: number): number[] {
  const lost = [...session.books.expire(sentBy + TIMEOUT_MS)];
  for (const seq of lost) session.onLost(seq);
  return lost;
}

/** A session of requests sent 100 ms apart, and replies as the test says. */
function make(
  sent: number,
  capacity = 1000,
  origin = TIME_ORIGIN,
  refused: readonly number[] = [],
) {
  const session = new SenderSession(origin, planOf(capacity));
  const requests: Array<{ request: Uint8Array; at: number }> = [];
  const send = () => {
    const sequence = requests.length;
    const at = 100 * sequence;
    const timestamp = timestampOf(origin + at);
    const request = encodeSender({
      sequence,
      timestamp,
      errorEstimate,
      ssid: 0,
    });
    session.onSent(request, at, at);
    if (refused.includes(sequence)) {
      session.books.refused(sequence, new Error("down"));
      session.onUnsent();
    } else session.books.taken(sequence);
    requests.push({ request, at });
  };
  for (let i = 0; i < sent; i++) send();
  /** The reply to a request, so long after it; half of it on the way there. */
  const reply = (
    seq: number,
    delayMs: number,
    options: ReplyFields = {},
  ) => {
    const { request, at } = requests[seq]!;
    return replyTo(request, seq, at, delayMs, options);
  };
  const replyTo = (
    request: Uint8Array,
    seq: number,
    at: number,
    delayMs = 2,
    { number = seq, tookMs = 0, aheadMs = 0, ptp = false }: ReplyFields = {},
  ) => {
    const thereAt = origin + at + delayMs / 2 + aheadMs;
    const data = encodeReflector({
      sequence: number,
      timestamp: timestampOf(thereAt + tookMs),
      errorEstimate: { ...errorEstimate, ptp },
      ssid: 0,
      receiveTimestamp: timestampOf(thereAt),
      senderSequence: seq,
      senderTimestamp: timestampOf(origin + at),
      senderErrorEstimate: errorEstimate,
      senderTtl: 0,
    }, request);
    return { data, at: at + delayMs + tookMs };
  };
  const receive = (...args: Parameters<typeof reply>) => {
    const { data, at } = reply(...args);
    return session.onReceived(data, at);
  };
  return { session, requests, send, reply, replyTo, receive };
}

Deno.test("SenderSession: IPDV and PDV are those of the example in RFC 5481, section 4.4", () => {
  const delays = [20, 10, 20, 25, 20];
  const { session, receive } = make(5);
  delays.forEach((delayMs, seq) => receive(seq, delayMs));
  const { rttMs, ipdvMs, pdvMs } = session.result();
  assertEquals(rttMs, summarize(delays));
  assertEquals(ipdvMs, summarize([-10, 10, 5, -5]));
  assertEquals(pdvMs, aboveMinimum(summarize(delays)!));
  assertEquals(pdvMs, summarize([10, 0, 10, 15, 10]));
});

Deno.test("SenderSession: IPDV is of neighbours in the order of sending, and undefined beside a loss", () => {
  const { session, receive } = make(5);
  // 2 is lost; 1 comes before 0.
  for (const [seq, delayMs] of [[1, 30], [0, 150], [3, 10], [4, 40]]) {
    receive(seq!, delayMs!);
  }
  assertEquals(session.result().ipdvMs, summarize([-120, 30]));
});

Deno.test("SenderSession: the RTT is without the reflector's time, if that is possible", () => {
  const { session, receive } = make(3);
  const took = [5, -1, 1e6].map((tookMs, seq) => {
    const verdict = receive(seq, 20, { tookMs });
    assert(verdict.type === "reply");
    return verdict.sample;
  });
  assertEquals([took[0]!.rttMs, took[0]!.seenMs, took[0]!.reflectorMs], [
    20,
    25,
    5,
  ]);
  assertEquals([took[1]!.rttMs, took[1]!.reflectorMs], [19, undefined]);
  assertEquals(session.result().reflectorMs, summarize([5, 1e6]));
});

Deno.test("SenderSession: loss is attributed by the reflector's numbers", () => {
  const { session, receive, send } = make(7);
  const figures = () => {
    expire(session, 10_000);
    const { lost, lostUp, lostDown, lostUnattributed } = session.result();
    return [lost, lostUp, lostDown, lostUnattributed];
  };
  // Never there: 1 and 4. Reflected, and lost on the way back: 2 and 6.
  receive(0, 10, { number: 0 });
  receive(3, 10, { number: 2 });
  receive(5, 10, { number: 3 });
  // Those sent before the last one answered may still have been in flight then.
  assertEquals(figures(), [4, 0, 1, 3]);
  for (let i = 7; i < 10; i++) send();
  receive(7, 10, { number: 5 });
  // The last two are lost, who knows where.
  assertEquals(figures(), [6, 2, 2, 2]);
});

Deno.test("SenderSession: loss is not attributed if the reflector may not count", () => {
  const { session, receive } = make(4);
  receive(0, 10);
  receive(2, 10);
  assertEquals(session.result().lostUp, 0, "nothing is lost yet");
  expire(session, 10_000);
  const { lost, lostUp, lostDown, lostUnattributed } = session.result();
  assertEquals([lost, lostUp, lostDown, lostUnattributed], [
    2,
    undefined,
    undefined,
    undefined,
  ]);
});

Deno.test("SenderSession: one-way delays need both clocks synchronized", () => {
  const right = { ...errorEstimate, synchronized: true, scale: 22 };
  for (
    const [own, theirs, isTold] of [
      [right, right, true],
      [errorEstimate, right, false],
      [right, errorEstimate, false],
    ] as const
  ) {
    const { session, reply } = make(2);
    session.onClock(own);
    for (const [i, estimate] of [right, theirs].entries()) {
      const { data, at } = reply(i, 10);
      new DataView(data.buffer).setUint16(
        12,
        (estimate.synchronized ? 0x8000 : 0) | estimate.scale << 8 | 1,
      );
      session.onReceived(data, at);
    }
    const { forwardDelayMs, backwardDelayMs, oneWayErrorMs } = session.result();
    assertEquals(forwardDelayMs?.mean, isTold ? 5 : undefined);
    assertEquals(backwardDelayMs?.mean, isTold ? 5 : undefined);
    // Two errors of 2^-10 s.
    assertEquals(oneWayErrorMs, isTold ? 2000 / 1024 : undefined);
  }
});

Deno.test("SenderSession: copies, late replies and foreign datagrams are counted", () => {
  const { session, reply, receive } = make(4);
  assertEquals(receive(0, 10).type, "reply");
  assertEquals(receive(0, 12).type, "duplicate");
  assertEquals(expire(session, 100), [1]);
  assertEquals(receive(1, 900), { type: "late", seq: 1 });
  assertEquals(receive(1, 901), { type: "duplicate", seq: 1 });

  const { data, at } = reply(2, 10);
  const hostile: Uint8Array[] = [new Uint8Array(0), new Uint8Array(65_507)];
  hostile.push(data.subarray(0, 37));
  for (const byte of [13, 24, 27, 28, 35, 37]) {
    const wrong = data.slice();
    wrong[byte] = byte === 13 || byte === 37 ? 0 : wrong[byte]! ^ 1;
    hostile.push(wrong);
  }
  for (const wrong of hostile) {
    assertEquals(
      session.onReceived(wrong, at).type,
      "foreign",
      wrong.toHex().slice(0, 88),
    );
  }
  assertEquals(session.onReceived(data, at).type, "reply");
  const { received, duplicates, late, foreign, pending } = session.result();
  assertEquals([received, duplicates, late, foreign, pending], [2, 2, 1, 9, 1]);
});

Deno.test("SenderSession: requests that the system refused are lost in no direction", () => {
  // An outage at home, a request lost up, and a reply lost down.
  const outage = [3, 4, 5];
  const { session, receive, send } = make(10, 1000, TIME_ORIGIN, outage);
  const numbers = [0, 1, undefined, ...[, , ,], 2, undefined, 4, 5];
  for (const [seq, number] of numbers.entries()) {
    if (number !== undefined) receive(seq, 10, { number });
  }
  expire(session, 10_000);
  send();
  receive(10, 10, { number: 6 });
  const { lost, unsent, lostUp, lostDown, lostUnattributed } = session.result();
  assertEquals([lost, unsent], [2, 3]);
  assertEquals([lostUp, lostDown, lostUnattributed], [1, 1, 0]);
});

Deno.test("SenderSession: copies and reordering have directions and extents", () => {
  const { session, receive } = make(8);
  const arrivals: Array<[seq: number, number: number]> = [
    [0, 0],
    [2, 1],
    [1, 2],
    [3, 3],
    [3, 4],
    [3, 3],
    [6, 7],
    [7, 8],
    [4, 5],
    [5, 6],
  ];
  for (const [seq, number] of arrivals) {
    receive(seq, 1000 + arrivals.length, { number });
  }
  const result = session.result();
  assertEquals([result.duplicates, result.reordered], [2, 3]);
  assertEquals([result.duplicatesUp, result.duplicatesDown], [1, 1]);
  assertEquals([result.reorderedUp, result.reorderedDown], [1, 2]);
  assertEquals(result.reorderingExtent, { max: 3, mean: 2 });
});

Deno.test("SenderSession: the offset of the clocks has an error", () => {
  const { session, receive } = make(2);
  // The reflector takes T2 half way; the clocks agree.
  receive(0, 30);
  assertEquals(session.result().clockOffsetMs, { estimate: 0, error: 15 });
  receive(1, 10);
  assertEquals(session.result().clockOffsetMs, { estimate: 0, error: 5 });
});

Deno.test("SenderSession: without replies there are no figures", () => {
  const result = new SenderSession(0, planOf(10)).result();
  for (const [key, value] of Object.entries(result)) {
    const isNone = value === 0 || Array.isArray(value) && value.length === 0;
    assert(
      isNone || value === undefined || key === "exact",
      `${key}: ${value}`,
    );
  }
});

Deno.test("SenderSession: a million samples need no more memory than its capacity", () => {
  const session = new SenderSession(TIME_ORIGIN, planOf(4096));
  for (let sequence = 0; sequence < 1_000_000; sequence++) {
    const timestamp = timestampOf(TIME_ORIGIN + sequence);
    const packet = { sequence, timestamp, errorEstimate, ssid: 0 };
    const request = encodeSender(packet);
    session.onSent(request, sequence, sequence);
    session.books.taken(sequence);
    if (sequence % 100 === 99) continue;
    const data = encodeReflector({
      ...packet,
      receiveTimestamp: timestamp,
      senderSequence: sequence,
      senderTimestamp: timestamp,
      senderErrorEstimate: errorEstimate,
      senderTtl: 0,
    }, request);
    session.onReceived(data, sequence + 1 + sequence % 10);
    if (sequence % 1000 === 0) expire(session, sequence - 500);
  }
  expire(session, Infinity);
  const { sent, received, lost, exact, rttMs } = session.result();
  assertEquals([sent, received, lost, exact], [
    1_000_000,
    990_000,
    10_000,
    false,
  ]);
  assertEquals([rttMs!.min, rttMs!.max], [1, 9 + 1]);
  assert(Math.abs(rttMs!.median - 5) < 0.02);
});

Deno.test("SenderSession: loss, jitter and lateness are those of the samples", () => {
  const { session, receive } = make(5);
  const times = [10, 30, 20];
  times.forEach((delayMs, seq) => receive(seq, delayMs));
  expire(session, 350);
  const result = session.result();
  assertEquals([result.lost, result.pending, result.lossPercent], [1, 1, 25]);
  assertEquals(result.returnsSsid, undefined);
  // Each way takes half; RFC 3550 divides by 16.
  const jitter = [10 / 16, 10 / 16 + (5 - 10 / 16) / 16];
  assertEquals(result.forwardJitterMs, jitter[1]);
  assertEquals(result.backwardJitterMs, jitter[1]);
  assertEquals(result.forwardPdvMs?.max, 10);
  assertEquals(result.backwardPdvMs?.max, 10);
  assertEquals(result.sendErrorMs, summarize([0, 0, 0, 0, 0]));
  const late = new SenderSession(TIME_ORIGIN, planOf(10));
  late.onSent(new Uint8Array(44), 100, 103.5);
  assertEquals(late.result().sendErrorMs?.max, 3.5);
});

Deno.test("SenderSession: the reflector's time is at most the round trip", () => {
  const { session, reply } = make(1);
  const { data } = reply(0, 10, { tookMs: 20 });
  const verdict = session.onReceived(data, 20);
  assert(verdict.type === "reply");
  assertEquals([verdict.sample.reflectorMs, verdict.sample.rttMs], [20, 0]);
});

Deno.test("SenderSession: timestamps of the kernel count if they can be of this request", () => {
  const cases: Array<[stampedAt: number, arrivedAt: number, isTaken: boolean]> =
    [
      [100.5, 109, true],
      // Two clocks that are read one after the other differ a little.
      [99.95, 110.05, true],
      [99.94, 109, false],
      [100.5, 110.06, false],
      [105, 104, false],
      [105, 105, true],
      [100 + 10_000, 109, false],
    ];
  for (const [stampedAt, arrivedAt, isTaken] of cases) {
    const { session, reply } = make(2);
    const { data, at } = reply(1, 10);
    session.onStamp(1, stampedAt);
    session.onStamp(2, 0);
    const verdict = session.onReceived(data, at, arrivedAt);
    assert(verdict.type === "reply");
    const { clock, rttMs, seenMs } = verdict.sample;
    const told = `${stampedAt} to ${arrivedAt}`;
    assertEquals(clock, isTaken ? "kernel" : "program", told);
    assertEquals(session.result().kernelTimed, isTaken ? 1 : 0);
    assertEquals(seenMs, 10);
    assertEquals(rttMs, isTaken ? arrivedAt - stampedAt : 10, told);
  }
});

Deno.test("SenderSession: a timestamp of the kernel is valid from just before the send until 10 s after", () => {
  const stampedRtt = (at: number) => {
    const { session, reply } = make(1);
    session.onStamp(0, at);
    // After the clock was set, the kernel's time may be anything.
    const { data } = reply(0, 20_000);
    session.onReceived(data, 20_000, 20_000);
    return session.result().kernelTimed;
  };
  assertEquals([-0.06, -0.05, 0, 9999.9, 10_000].map(stampedRtt), [
    ...[0, 1, 1, 1, 0],
  ]);
});

Deno.test("SenderSession: only the reply to a closing probe that was sent is one", () => {
  const { session, requests, replyTo } = make(1);
  const probe = encodeSender({
    sequence: 1,
    timestamp: timestampOf(TIME_ORIGIN + 500),
    errorEstimate,
    ssid: 0,
  });
  const { data } = replyTo(probe, 1, 500);
  // Nobody has sent it yet; and a request's reply is none.
  assertEquals(session.onReceived(data, 500).type, "foreign");
  const reply = replyTo(requests[0]!.request, 0, 0).data;
  assertEquals(session.onReceived(reply, 500).type, "reply");
  session.onClosingSent(probe);
  assertEquals(session.onReceived(data, 500).type, "closing");
});

Deno.test("SenderSession: impossible timestamps of a reflector are in no figure but the RTTs", () => {
  const zeros = (data: Uint8Array, ...at: number[]) => {
    for (const place of at) data.fill(0, place, place + 8);
  };
  const broken: Array<(data: Uint8Array) => void> = [
    (data) => zeros(data, 4, 16),
    (data) => zeros(data, 4),
    (data) => zeros(data, 16),
    // T3 a second before T2, and a second after it.
    (data) => data[7]!--,
    (data) => data[7]!++,
  ];
  for (const ptp of [false, true]) {
    const { session, reply } = make(2 * broken.length);
    for (const [seq, spoil] of broken.entries()) {
      const { data, at } = reply(seq, 20, { ptp });
      spoil(data);
      const verdict = session.onReceived(data, at);
      assert(verdict.type === "reply");
      const { rttMs, seenMs, reflectorMs, forwardMs, backwardMs } =
        verdict.sample;
      assertEquals([rttMs, seenMs], [20, 20]);
      assertEquals([reflectorMs, forwardMs, backwardMs], [
        undefined,
        undefined,
        undefined,
      ]);
    }
    const result = session.result();
    assertEquals(result.impossibleTimestamps, broken.length);
    assertEquals([result.rttMs?.max, result.pdvMs?.max], [20, 0]);
    assertEquals([result.reflectorMs, result.clockOffsetMs], [
      undefined,
      undefined,
    ]);
    assertEquals([result.forwardPdvMs, result.forwardJitterMs], [
      undefined,
      undefined,
    ]);
    assertEquals([result.forwardDelayMs, result.clockSteps], [undefined, 0]);
    // Others are measured as if those were not there.
    for (let seq = broken.length; seq < 2 * broken.length; seq++) {
      const { data, at } = reply(seq, 10, { ptp });
      session.onReceived(data, at);
    }
    const { clockOffsetMs, forwardPdvMs, impossibleTimestamps } = session
      .result();
    assertEquals(clockOffsetMs, { estimate: 0, error: 5 });
    assertEquals([forwardPdvMs?.max, impossibleTimestamps], [0, broken.length]);
  }
});

Deno.test("SenderSession: offset, drift, jitter and PDV do without the steps of a clock", () => {
  for (const stepMs of [-3_600_000, -50, 50, 3_600_000]) {
    const { session, receive } = make(60);
    for (let seq = 0; seq < 60; seq++) {
      const aheadMs = 7 + (seq < 20 ? 0 : seq < 40 ? stepMs : 3 * stepMs);
      receive(seq, 10 + 2 * (seq % 4), { aheadMs });
    }
    const result = session.result();
    assertEquals(result.clockSteps, 2, `${stepMs} ms`);
    const { estimate, error } = result.clockOffsetMs!;
    assert(Math.abs(estimate - 7 - 3 * stepMs) < 1e-6, `${estimate}`);
    assertEquals(Math.round(error), 5);
    for (const pdvMs of [result.forwardPdvMs!, result.backwardPdvMs!]) {
      const { min, median, max } = pdvMs;
      const figures = [min, median, max].map((ms) => Math.round(1e4 * ms));
      assertEquals(figures, [0, 1.5e4, 3e4], `${stepMs} ms`);
    }
    assert(result.forwardJitterMs! < 2 && result.backwardJitterMs! < 2);
    assertEquals(result.forwardDelayMs, undefined);
  }
});

Deno.test("SenderSession: steps within a round trip are not claimed, nor figures of a clock that only steps", () => {
  const steps = (stepMs: number, each: number) => {
    const { session, receive } = make(40);
    for (let seq = 0; seq < 40; seq++) {
      receive(seq, 10, { aheadMs: seq % each < each / 2 ? 0 : stepMs });
    }
    const { clockSteps, forwardPdvMs, forwardJitterMs } = session.result();
    return [clockSteps, forwardPdvMs !== undefined, forwardJitterMs];
  };
  assertEquals(steps(9, 20)[0], 0);
  assertEquals(steps(12, 20).slice(0, 2), [3, true]);
  // As behind an address that two reflectors share.
  assertEquals(steps(1000, 2), [39, false, undefined]);
});

Deno.test("SenderSession: a request that was overtaken by a step is in no figure of it", () => {
  const { session, reply } = make(4);
  const replies = [0, 1, 2, 3].map((seq) =>
    reply(seq, 10, { aheadMs: seq < 2 ? 0 : 5000 })
  );
  for (const seq of [0, 2, 1, 3]) {
    session.onReceived(replies[seq]!.data, replies[seq]!.at);
  }
  const { clockSteps, received, forwardPdvMs, clockOffsetMs } = session
    .result();
  assertEquals([clockSteps, received, forwardPdvMs?.max], [1, 4, 0]);
  assertEquals(clockOffsetMs, { estimate: 5000, error: 5 });
});

Deno.test("SenderSession: figures are right when 32 bits of seconds repeat, in 2036 and 2106", () => {
  for (const [year, ptp] of [[2036, false], [2106, true]] as const) {
    const origin = year === 2036
      ? 1000 * (2 ** 32 - 2_208_988_800) - 250
      : 1000 * 2 ** 32 - 250;
    const { session, receive } = make(6, 10, origin);
    for (let seq = 0; seq < 6; seq++) receive(seq, 10, { ptp, aheadMs: 200 });
    const { clockOffsetMs, impossibleTimestamps, clockSteps } = session
      .result();
    const { estimate, error } = clockOffsetMs!;
    assert(Math.abs(estimate - 200) < 1e-3, `${year}: ${estimate}`);
    assert(Math.abs(error - 5) < 1e-3, `${year}: ${error}`);
    assertEquals([impossibleTimestamps, clockSteps], [0, 0]);
  }
});
