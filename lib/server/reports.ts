/**
 * Reports of a server: by the owner's callbacks, else in lines on stderr, the
 * number of which is bounded for each kind.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { type Refusal, REFUSAL_WORDS } from "./guard.ts";
import { Incoming } from "./incoming.ts";
import type { DatagramInfo, Reply } from "./handler.ts";
import type { Runtime } from "../socket/runtime.ts";
import type { Hooks } from "./udp_server.ts";
import { errorName } from "../base/errors.ts";
import { describeError, throttle } from "../base/warn.ts";

/** The callbacks of a server, and the lines in their place. */
export class Reports {
  readonly #addr: UdpAddress;
  readonly #hooks: Hooks & { maxInFlight: number };
  readonly #runtime: Pick<Runtime, "now" | "warn">;
  readonly #warnings: ReturnType<typeof throttle>;
  /** Kinds of events that are reported once, and have been. */
  readonly #reported = new Set<string>();

  /**
   * Reports nothing yet.
   *
   * @param addr The server's address, at the beginning of its lines.
   * @param hooks The callbacks, and the largest number of datagrams at work.
   * @param runtime Its clock, and the way to stderr.
   */
  constructor(
    addr: UdpAddress,
    hooks: Hooks & { maxInFlight: number },
    runtime: Pick<Runtime, "now" | "warn">,
  ) {
    this.#addr = addr;
    this.#hooks = hooks;
    this.#runtime = runtime;
    this.#warnings = throttle(
      (text) => this.#warn(text),
      () => runtime.now(),
    );
  }

  /** The guard has withheld an answer. */
  refused(reason: Refusal, incoming: Incoming): void {
    const { onRefuse } = this.#hooks;
    if (onRefuse !== undefined) {
      return this.#call(() => onRefuse(reason, incoming), incoming);
    }
    this.once(
      reason,
      `refused to answer ${formatAddress(Incoming.source(incoming))}: ${
        REFUSAL_WORDS[reason]
      }${REMEDIES[reason] ?? ""}`,
    );
  }

  /** A datagram was dropped, since too many are at work. */
  overloaded(incoming: Incoming): void {
    const { onOverload, maxInFlight } = this.#hooks;
    if (onOverload !== undefined) {
      return this.#call(() => onOverload(incoming), incoming);
    }
    this.once(
      "overload",
      `dropped a datagram from ${
        formatAddress(Incoming.source(incoming))
      }, as ` +
        `${maxInFlight} are at work: answer faster, or raise maxInFlight`,
    );
  }

  /** Calls back; its errors end here, those of an async function too. */
  #call(callback: () => unknown, incoming: Incoming): void {
    Promise.try(callback).catch((error) =>
      this.error("callback", error, incoming, Incoming.source(incoming))
    );
  }

  /** Passes an error to `onError`, and returns its reply; its own errors end here. */
  error(
    failing: Failing,
    error: unknown,
    info?: Pick<DatagramInfo, "remoteAddr">,
    source?: UdpAddress,
  ): Reply | Promise<Reply> {
    const { onError, quiet } = this.#hooks;
    if (onError !== undefined) {
      return Promise.try(onError, error, info).catch(() => undefined);
    }
    if (!quiet) this.#warnOf(failing, error, source);
  }

  #warnOf(
    failing: Failing,
    error: unknown,
    source: UdpAddress | undefined,
  ): void {
    this.#warnings(`${failing} ${errorName(error)}`, () => {
      const peer = source === undefined ? "" : ` (${formatAddress(source)})`;
      return `${FAILURES[failing]}${peer}: ${describeError(error)}`;
    });
  }

  /** Reports the first event of a kind; later ones are only counted. */
  once(kind: string, text: string): void {
    if (this.#hooks.quiet || this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.#warn(`${text}. From now on these are only counted.`);
  }

  #warn(text: string): void {
    this.#runtime.warn(`UDP server on ${formatAddress(this.#addr)}: ${text}`);
  }
}

/** Whether a value is a promise; never throws, as its `then` may. */
export function isPromiseLike(value: unknown): value is PromiseLike<Reply> {
  try {
    return typeof (value as PromiseLike<Reply> | null)?.then === "function";
  } catch {
    return true;
  }
}

type Failing = "handler" | "send" | "receive" | "notice" | "callback";

const FAILURES: Record<Failing, string> = {
  handler: "the handler failed",
  send: "a datagram could not be sent",
  receive: "a receive failed",
  notice: "notice",
  callback: "a callback failed",
};

const REMEDIES: Partial<Record<Refusal, string>> = {
  amplification:
    "; info.maxReplyBytes says how large it may be, guard.trusted or " +
    "guard.maxAmplification allow more",
  rate: "; guard.trusted or guard.rateLimit allow more",
  offLink: "; guard.answerOffLink allows it",
};
