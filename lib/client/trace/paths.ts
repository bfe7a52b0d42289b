/**
 * The paths that flows take: flows with the same hops are one. Pure.
 *
 * @module
 */
import { Hop, type MtuReport } from "./search.ts";

/** The facts of a flow, or of all flows on one path. */
export interface Path {
  /** The source ports of its flows. */
  sourcePorts: number[];
  hops: Hop[];
  /** Whether the target answered. */
  isReached: boolean;
  mtuReports: MtuReport[];
  /**
   * The MTU, if the target answered a datagram of this size; `null` if it answered
   * none, undefined if none was sent.
   */
  mtu: number | null | undefined;
}

/**
 * Joins flows whose hops have the same addresses, up to the target or to the last hop
 * that answers. A silent hop before that is like any other: a flow with one joins the
 * first path that it can have taken.
 */
export function pathsOf(flows: readonly Path[]): Path[] {
  const paths: Path[] = [];
  for (const flow of flows) {
    let path = paths.find((path) => isAlike(path, flow));
    if (path === undefined) {
      const mtuReports = [...flow.mtuReports];
      paths.push(path = { ...flow, sourcePorts: [], hops: [], mtuReports });
    }
    path.sourcePorts.push(...flow.sourcePorts);
    path.mtu = flow.mtu ?? path.mtu;
    for (const [i, hop] of flow.hops.entries()) {
      (path.hops[i] ??= new Hop()).add(hop);
    }
  }
  return paths;
}

/** The address of a hop, the first of several; undefined for a silent one. */
export function addressOf(hop: Hop | undefined): string | undefined {
  return hop?.addresses.values().next().value;
}

function isAlike(one: Path, other: Path): boolean {
  if (one.isReached !== other.isReached) return false;
  return knownOf(one) === knownOf(other) && one.hops.every((hop, i) => {
    const [x, y] = [addressOf(hop), addressOf(other.hops[i])];
    return x === undefined || y === undefined || x === y;
  });
}

/** The number of hops up to the last that is known: the target, or one that answers. */
function knownOf({ hops, isReached }: Path): number {
  const isKnown = (hop: Hop) => addressOf(hop) !== undefined;
  return isReached ? hops.length : hops.findLastIndex(isKnown) + 1;
}

/** The facts of hops of several flows as one. */
export function joinedHop(hops: readonly Hop[]): Hop {
  const joined = new Hop();
  for (const hop of hops) joined.add(hop);
  return joined;
}
