/**
 * The paths of a trace as a table and in JSON. Pure.
 *
 * @module
 */
import { addressOf, joinedHop, type Path } from "../../client/trace/paths.ts";
import type { Hop, ProbeEvent } from "../../client/trace/search.ts";
import { printable } from "../../encoding.ts";
import { type Columns, type Rows, TARGET } from "./columns.ts";
import { lossText, milliseconds, present, tableLines } from "./format.ts";
import type { View } from "./reporter.ts";

export interface TraceResult {
  target: string;
  isReached: boolean;
  sent: number;
  seesHeaders: boolean;
  trafficClass: number;
  paths: Path[];
  untraced: number;
}

const HOP_ROWS: Rows = {
  ttl: { docs: "the TTL or hop limit of its probes" },
  address: { docs: "the address that answered; `null` if none did" },
  name: { docs: "its name; `null` if it has none, or DNS was too slow" },
  others: { docs: "further addresses that answered" },
  sent: { docs: "probes" },
  received: { docs: "those answered within the time-out" },
  lost: { docs: "those that timed out; the others are in flight" },
  lossPercent: { docs: "the lost in percent of received and lost" },
  rttMs: { docs: "a summary of RTTs; `null` without one" },
  kinds: {
    docs:
      "answers: `expired`, `reply`, `closed` for a closed port, `unreachable`",
  },
  marks: { docs: "of `unreachable`: `!N`, `!H`, `!P`, `!S`, `!X`, `!CODE`" },
  trafficClasses: {
    docs: "traffic classes with which probes arrived, as quoted",
  },
};

function hopObject(hop: Hop, index: number) {
  const { name, sent, received, lost, lossPercent, rtts } = hop;
  const [address, ...others] = hop.addresses;
  return {
    ...{ ttl: index + 1, address, name, others },
    ...{ sent, received, lost, lossPercent },
    rttMs: rtts.summary(),
    kinds: [...hop.kinds],
    marks: [...hop.marks],
    trafficClasses: [...hop.trafficClasses],
  };
}

function pathObject({ hops, mtu, ...path }: Path) {
  const { isReached } = path;
  const lossPercent = isReached ? hops.at(-1)!.pathLossPercent : undefined;
  const probed = hops.map(hopObject).filter(({ sent }) => sent > 0);
  return { ...path, lossPercent, mtu, hops: probed };
}

export const TRACE_COLUMNS: Columns<TraceResult> = {
  target: TARGET,
  isReached: { docs: "whether the target replied or reported a closed port" },
  sent: { docs: "datagrams that the system took" },
  seesHeaders: {
    docs: "whether quoted headers were visible, which needs CAP_NET_RAW",
  },
  trafficClass: { docs: "the traffic class of the probes" },
  paths: {
    docs: "the paths, with the flows that take them",
    json: (paths) => paths.map(pathObject),
    columns: {
      sourcePorts: { docs: "the source ports of its flows" },
      isReached: { docs: "whether the target answered on it" },
      mtuReports: {
        docs: "reports of a smaller MTU: `mtu`, and `from`, the router",
      },
      lossPercent: {
        docs: "probes without the target's answer in percent, at its TTL",
      },
      mtu: { docs: "the MTU, if the target answered a datagram of this size" },
      hops: { docs: "the hops", columns: HOP_ROWS },
    },
  },
  untraced: {
    docs: "flows not traced to their end yet: in no path, unless all are",
  },
};

export const TRACE_EVENTS = {
  probe: {
    sourcePort: { docs: "the source port" },
    ttl: { docs: "the TTL or hop limit" },
    outcome: {
      docs:
        "`expired`, `reply`, `closed`, `unreachable`, `too-big` (it is sent again, smaller) or `lost`",
    },
    from: { docs: "the address that answered" },
    rttMs: { docs: "the round-trip time in milliseconds" },
    mark: { docs: "of `unreachable`, as `traceroute` has it", optional: true },
    mtu: { docs: "of `too-big`: the MTU of the next link", optional: true },
    trafficClass: {
      docs: "the traffic class as quoted",
      optional: true,
    },
  },
} as const;

export const TRACE_VIEW: View<ProbeEvent, TraceResult> = {
  list: "probes",
  events: TRACE_EVENTS,
  result: TRACE_COLUMNS,
  line: () => undefined,
  lines: (result, columns) =>
    result.sent === 0 ? "" : traceLines(result, columns).join("\n"),
  warnings: ({ seesHeaders, sent }) =>
    seesHeaders || sent === 0 ? [] : [NO_HEADERS],
  silence: ({ target, isReached }) =>
    isReached ? undefined : `No answer from ${target}`,
};

/** A row of the table: a hop, with letters or numbers of its paths, "" for all. */
interface Row {
  ttl: number;
  hop: Hop;
  letters: string;
  notes: string[];
}

/** The table of hops, and a line for each path. */
export function traceLines(
  { target, paths, trafficClass, untraced }: TraceResult,
  columns = 80,
): string[] {
  const hasLetters = paths.length <= LETTERS.length;
  const letterOf = (path: Path) => {
    const i = paths.indexOf(path);
    return hasLetters ? LETTERS[i]! : `${i + 1}`;
  };
  const rows = rowsOf(paths, trafficClass, letterOf);
  const cells = rows.map(({ ttl, hop, letters }) => {
    const summary = hop.rtts.summary();
    const times = (["min", "median", "max"] as const)
      .map((figure) => summary ? milliseconds(summary[figure]) : "");
    const address = addressOf(hop) ?? "*";
    return [
      `${`${ttl}`.padStart(3)} ${letters && `${letters} `}${address}`,
      ...[lossText(hop.lossPercent), `${hop.sent}`, ...times],
    ];
  });
  const head = ["hop address", "loss", "sent", "min ms", "median", "max"];
  const lines = tableLines([head, ...cells], Infinity);
  const shown = rows.flatMap(({ notes }, i) =>
    withNotes(lines[i + 1]!.trimEnd(), notes.map(printable), columns)
  );
  const isOne = paths.length === 1;
  const closing = paths.flatMap((path) => {
    const name = isOne ? target : `path ${letterOf(path)}`;
    return closingOf(path, name, !isOne || path.sourcePorts.length > 1);
  });
  const flows = untraced === 1 ? "1 flow" : `${untraced} flows`;
  const rest = untraced > 0 ? [`${flows} not traced yet`] : [];
  return [lines[0]!, ...shown, ...closing, ...rest];
}

/** A row for each hop that all paths share, and for each that differs. */
function rowsOf(
  paths: Path[],
  trafficClass: number,
  letterOf: (path: Path) => string,
): Row[] {
  const longest = Math.max(0, ...paths.map(({ hops }) => hops.length));
  return Array.from({ length: longest }, (_, i) => {
    const having = paths.filter(({ hops }) => (hops[i]?.sent ?? 0) > 0);
    const groups = Map.groupBy(having, ({ hops }) => addressOf(hops[i]));
    return [...groups.values()].map((group) => ({
      ttl: i + 1,
      hop: joinedHop(group.map(({ hops }) => hops[i]!)),
      letters: group.length === paths.length
        ? ""
        : group.map(letterOf).join(paths.length > LETTERS.length ? "," : ""),
      notes: [
        ...new Set(group.flatMap((one) => notesOf(one, i, trafficClass))),
      ],
    }));
  }).flat();
}

/** The remarks on a hop: name, end of the path, changes since the hop before. */
function notesOf(
  { hops, mtuReports }: Path,
  i: number,
  trafficClass: number,
): string[] {
  const { name, addresses, kinds, marks, trafficClasses } = hops[i]!;
  const [address, ...others] = addresses;
  const quoted = hops.slice(0, i).flatMap((hop) => [...hop.trafficClasses]);
  const before = quoted.at(-1) ?? trafficClass;
  const [now = before] = trafficClasses;
  const changes: Array<[string, number, number]> = [
    ["DSCP", before >> 2, now >> 2],
    ["ECN", before & 3, now & 3],
  ];
  return present([
    name !== address && name,
    ...others.map((other) => `also ${other}`),
    kinds.has("closed") && "closed port",
    kinds.has("reply") && "reply",
    ...marks,
    ...changes.map(([field, from, to]) =>
      from !== to && `${field} ${from} -> ${to}`
    ),
    ...mtuReports.filter(({ from }) =>
      hops.findIndex(({ addresses }) => addresses.has(from)) === i
    )
      .map(({ mtu }) => `MTU ${mtu} from here`),
  ]);
}

/** Notes behind a line as far as they fit, and below it. */
function withNotes(line: string, notes: string[], columns: number): string[] {
  const lines = [line];
  notes.forEach((note, i) => {
    const longer = `${lines.at(-1)}${i === 0 ? "  " : ", "}${note}`;
    if (longer.length <= columns) lines.splice(-1, 1, longer);
    else lines.push(`    ${note}`);
  });
  return lines;
}

/** The end of a path: hops, loss, MTU, and the source ports of its flows. */
function closingOf(path: Path, name: string, hasPorts: boolean): string[] {
  const { hops, isReached, mtu, mtuReports, sourcePorts } = path;
  const last = hops.findLastIndex((hop) => hop.received > 0) + 1;
  const hopsText = hops.length === 1 ? "1 hop" : `${hops.length} hops`;
  const end = isReached
    ? `${hopsText}, ${lossText(hops.at(-1)!.pathLossPercent)} loss`
    : last === 0
    ? "no hop answers"
    : `no answer beyond hop ${last}`;
  const size = mtu === undefined ? "" : `, MTU ${mtu ?? "unknown"}`;
  const ports = `  source ports ${sourcePorts.join(", ")}`;
  const elsewhere = mtuReports.filter(({ from }) =>
    hops.every(({ addresses }) => !addresses.has(from))
  ).map(({ mtu, from }) => `  MTU ${mtu}, as ${from} reports, which is no hop`);
  return present([`${name}: ${end}${size}`, hasPorts && ports, ...elsewhere]);
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const NO_HEADERS =
  "changes of DSCP and ECN are not visible: quoted headers need CAP_NET_RAW";
