/**
 * Counts the answers to each peer, and decides when to probe whether the peer
 * answers them in turn: two servers that answer each other loop for ever
 * (CVE-2024-2169). Pure: the caller has the clock, and sends the probes.
 *
 * @module
 */
import type { UdpAddress } from "../address.ts";
import { FairMap } from "../base/fair_map.ts";

/** The latest peers of a server. */
export class LoopWatch {
  readonly #peers = new FairMap<Peer>(MAX_PEERS);
  /** One peer for each remainder of the ports, found without its key. */
  readonly #recent = new Array<Peer | undefined>(RECENT_PEERS).fill(undefined);
  /** The latest peer, found by the object of its address. */
  #lastRemote: UdpAddress | undefined;
  #lastPeer: Peer | undefined;

  /**
   * Whether a peer is in a loop, so that it gets no answer. The verdict ends
   * after a minute, or a pause of 10 s: the next answer is then probed.
   */
  isLoop(remote: UdpAddress, now: number): boolean {
    const peer = this.#peerOf(remote, now);
    if (peer.loopUntil === 0) return false;
    const isOver = now >= peer.loopUntil || now - peer.at > MAX_PAUSE_MS;
    peer.at = now;
    if (!isOver) return true;
    peer.loopUntil = 0;
    reset(peer);
    peer.isSuspect = true;
    peer.probeAt = 1;
    return false;
  }

  /**
   * Counts an answer to a datagram that was received at `now`; returns whether a
   * probe is due, as it is until {@linkcode LoopWatch.probed}.
   */
  isProbeDue(
    remote: UdpAddress,
    now: number,
    payload: Uint8Array,
    isOneOfSeveral = false,
  ): boolean {
    const peer = this.#peerOf(remote, now);
    peer.getsSeveral ||= isOneOfSeveral;
    if (now - peer.at > MAX_PAUSE_MS) reset(peer);
    peer.at = now;
    peer.answers++;
    if (!peer.isSuspect) compare(peer, payload);
    return peer.answers >= peer.probeAt && now >= peer.probeFrom &&
      (peer.isSuspect || peer.answers >= FIRST_PROBE);
  }

  /** The probe that was due has been sent, or cannot be. */
  probed(remote: UdpAddress, now: number): void {
    const peer = this.#peerOf(remote, now);
    const { answers } = peer;
    // A loop of several answers to a datagram grows until most are dropped, and
    // most probes with them.
    peer.probeAt = peer.getsSeveral
      ? answers + FIRST_PROBE_OF_SUSPECT
      : Math.max(FACTOR * answers, FIRST_PROBE_OF_SUSPECT);
    peer.probeFrom = now + RETRY_MS;
  }

  /** The peer has replied to a probe: it is in a loop. */
  onReply(remote: UdpAddress, now: number): void {
    const peer = this.#peerOf(remote, now);
    peer.at = now;
    peer.loopUntil = now + LOOP_MS;
  }

  #peerOf(remote: UdpAddress, now: number): Peer {
    if (remote === this.#lastRemote) return this.#lastPeer!;
    this.#lastRemote = remote;
    return this.#lastPeer = this.#find(remote, now);
  }

  #find(remote: UdpAddress, now: number): Peer {
    const { hostname, port } = remote;
    const slot = port % RECENT_PEERS;
    const recent = this.#recent[slot];
    if (recent?.port === port && recent.hostname === hostname) return recent;
    const key = `${hostname} ${port}`;
    const peer = this.#peers.get(key) ?? newPeer(remote, now);
    this.#peers.set(key, "", peer, peer.answers >= PROVEN_ANSWERS);
    return this.#recent[slot] = peer;
  }
}

/** A peer, by its address and port. */
interface Peer {
  readonly hostname: string;
  readonly port: number;
  /** When its latest datagram was received. */
  at: number;
  /** The number of answers without a pause. */
  answers: number;
  /** The number of answers at which a probe is due, if it is suspect. */
  probeAt: number;
  /** No probe is due before. */
  probeFrom: number;
  /** Whether its datagrams get several answers. */
  getsSeveral: boolean;
  /** Whether its port may be a service's, or its answers repeat. */
  isSuspect: boolean;
  /** The beginning of an earlier answer. */
  sample: Uint8Array;
  sampleBytes: number;
  /** For how many answers more the sample is compared. */
  samplesLeft: number;
  /** Until when it counts as in a loop; 0 if it does not. */
  loopUntil: number;
}

function newPeer({ hostname, port }: UdpAddress, at: number): Peer {
  const peer = { hostname, port, at, loopUntil: 0 } as Peer;
  reset(peer);
  return peer;
}

/** Forgets all but the verdict. */
function reset(peer: Peer): void {
  peer.answers = 0;
  peer.probeAt = FIRST_PROBE_OF_SUSPECT;
  peer.probeFrom = 0;
  peer.getsSeveral = false;
  peer.isSuspect = peer.port < FIRST_EPHEMERAL_PORT;
  peer.sample = NO_BYTES;
  peer.sampleBytes = -1;
  peer.samplesLeft = 0;
}

/** A peer is suspect if an answer to it repeats an earlier one. */
function compare(peer: Peer, payload: Uint8Array): void {
  if (peer.samplesLeft-- === 0) {
    peer.sample = new Uint8Array(payload.subarray(0, SAMPLE_BYTES));
    peer.sampleBytes = payload.length;
    peer.samplesLeft = MAX_REPEAT;
    return;
  }
  if (payload.length !== peer.sampleBytes) return;
  const { sample } = peer;
  for (let i = 0; i < sample.length; i++) {
    if (payload[i] !== sample[i]) return;
  }
  peer.isSuspect = true;
}

const NO_BYTES = new Uint8Array(0);
/** Enough for the latest 6,144 peers that are no newcomers. */
const MAX_PEERS = 8192;
const RECENT_PEERS = 4096;
/** A peer with this number of answers is no newcomer. */
const PROVEN_ANSWERS = 8;
/** Twice the longest round trip that a loop is expected to have. */
const MAX_PAUSE_MS = 10_000;
/** The longest time without answers to a peer in a loop. */
const LOOP_MS = 60_000;
/**
 * Clients have ephemeral ports, which begin here on Linux and higher elsewhere;
 * the discoverers of CVE-2024-2169 advise to refuse services' ports.
 */
const FIRST_EPHEMERAL_PORT = 32_768;
/** The number of answers before the first probe. */
const FIRST_PROBE_OF_SUSPECT = 1000;
const FIRST_PROBE = 25_000;
/** The number of answers before each later probe, as a multiple of the last. */
const FACTOR = 4;
/** The shortest time between probes of a peer with several answers. */
const RETRY_MS = 250;
/** The largest distance of equal answers, and the bytes that are compared. */
const MAX_REPEAT = 200;
const SAMPLE_BYTES = 64;
