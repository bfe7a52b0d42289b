/**
 * The numbers of datagrams that Linux dropped, in /proc/net/udp and udp6: a row for
 * each socket of the machine, so that a look takes milliseconds where there are
 * thousands.
 *
 * @module
 */
import { addressBytes, type UdpAddress } from "../address.ts";

/** The number of a socket; undefined where it is not known. */
export function dropsOf(
  addr: UdpAddress,
  isIPv6: boolean,
): number | undefined {
  const path = isIPv6 ? "/proc/net/udp6" : "/proc/net/udp";
  return dropsTable(path)?.get(dropsKey(addr));
}

/** The tables that were read in this turn of the event loop, by their paths. */
const tables = new Map<string, Map<string, number> | undefined>();

/** The numbers of dropped datagrams in a file of Linux, read once in a turn. */
function dropsTable(path: string): Map<string, number> | undefined {
  if (tables.has(path)) return tables.get(path);
  let table: Map<string, number> | undefined;
  try {
    // Deno needs all permissions for files in /proc; a prompt must not appear.
    const { state } = Deno.permissions.querySync({ name: "read", path });
    if (state === "granted") table = parseDrops(Deno.readTextFileSync(path));
  } catch {
    // A system without the file.
  }
  if (tables.size === 0) setImmediate(() => tables.clear());
  tables.set(path, table);
  return table;
}

/**
 * Reads the numbers of datagrams that the system dropped, by {@linkcode dropsKey}, in
 * the text of Linux's /proc/net/udp or udp6. Pure.
 */
export function parseDrops(text: string): Map<string, number> {
  const rows = text.matchAll(/^ *\d+: (\S+) .* (\d+) *$/gm);
  return new Map(Array.from(rows, ([, key, drops]) => [key!, Number(drops)]));
}

/** The socket's address in such a file. */
export function dropsKey({ hostname, port }: UdpAddress): string {
  const bytes = [...addressBytes(hostname)];
  const hex = (value: number) => value.toString(16).padStart(2, "0");
  // Each four bytes of an address are written as a number of this machine.
  let address = "";
  for (let at = 0; at < bytes.length; at += 4) {
    address += bytes.slice(at, at + 4).reverse().map(hex).join("");
  }
  return `${address}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}
