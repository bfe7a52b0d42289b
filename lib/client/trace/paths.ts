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
  /** The MTU, if the target answers a datagram of this size. */
  mtu: number | undefined;
}

/**
 * Joins flows whose hops have the same addresses. A silent hop is like any other: a
 * flow with one joins the first path that it can have taken.
 */
export function pathsOf(flows: readonly Path[]): Path[] {
  const paths: Path[] = [];
  for (const flow of flows) {
    const path = paths.find((path) => isAlike(path, flow));
    if (path === undefined) {
      const hops = flow.hops.map((hop) => joinedHop([hop]));
      const { sourcePorts, mtuReports } = flow;
      paths.push({
        ...flow,
        hops,
        sourcePorts: [...sourcePorts],
        mtuReports: [...mtuReports],
      });
      continue;
    }
    path.sourcePorts.push(...flow.sourcePorts);
    path.isReached ||= flow.isReached;
    path.mtu ??= flow.mtu;
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
  const [{ length: a }, { length: b }] = [one.hops, other.hops];
  if (a !== b && one.isReached && other.isReached) return false;
  return one.hops.every((hop, i) => {
    const [x, y] = [addressOf(hop), addressOf(other.hops[i])];
    return x === undefined || y === undefined || x === y;
  });
}

/** The facts of hops of several flows as one. */
export function joinedHop(hops: readonly Hop[]): Hop {
  const joined = new Hop();
  for (const hop of hops) joined.add(hop);
  return joined;
}
