/**
 * UDP addresses as text: parsing, formatting, comparing, and their bytes. Pure.
 *
 * @module
 */

/** An IP address or host name, and a port. A `Deno.NetAddr` is one. */
export interface UdpAddress {
  /** An IP address without brackets, or a host name. */
  hostname: string;
  /** From 0 to 65,535. As an address to bind, 0 means any free port. */
  port: number;
}

/**
 * Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
 *
 * An IPv6 address may stand without brackets if no port follows.
 *
 * @param text The address.
 * @param defaultPort The port when `text` names none; without it, a port is
 * required.
 * @returns The address, its host name in canonical form.
 * @throws {SyntaxError} If the text has another form; the message names the fault.
 * @throws {TypeError} If it is no text, or the default port no integer.
 *
 * @example
 * ```ts
 * import { parseAddress } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parseAddress("[::1]:20001"), { hostname: "::1", port: 20001 });
 * assertEquals(parseAddress("localhost", 53), { hostname: "localhost", port: 53 });
 * ```
 */
export function parseAddress(text: string, defaultPort?: number): UdpAddress {
  requireText(text, "text", "such as localhost:53");
  if (!Number.isInteger(defaultPort ?? 0)) {
    throw wrongValue("defaultPort", "an integer", defaultPort);
  }
  const { host, port } = splitHostPort(text);
  if (host === "") {
    throw new SyntaxError(`'${text}' has no host before its port`);
  }
  if (!isHost(host)) {
    throw new SyntaxError(
      NUMBER_REGEXP.test(host)
        ? `'${host}' is no IP address, and no name, which would not end in a number`
        : `'${text}' is not HOST[:PORT] or [IPV6][:PORT]`,
    );
  }
  if (port === undefined && defaultPort === undefined) {
    throw new SyntaxError(`'${text}' has no port: write HOST:PORT`);
  }
  return {
    hostname: canonicalHostname(host),
    port: port === undefined ? defaultPort! : parsePort(port),
  };
}

/**
 * Reads a port number.
 *
 * @param text Decimal digits, 0 to 65535.
 * @returns The port.
 * @throws {SyntaxError} If it is anything else.
 *
 * @example
 * ```ts
 * import { parsePort } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parsePort("20001"), 20001);
 * ```
 */
export function parsePort(text: string): number {
  requireText(text, "text", "the digits of a port");
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) {
    throw new SyntaxError(`port '${text}' is not a number from 0 to 65535`);
  }
  return Number(text);
}

/**
 * Writes an address as `HOST:PORT`, IPv6 as `[HOST]:PORT`.
 *
 * @param address The address.
 * @returns The text.
 * @throws {TypeError} If it is no address.
 *
 * @example
 * ```ts
 * import { formatAddress } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(formatAddress({ hostname: "::1", port: 53 }), "[::1]:53");
 * ```
 */
export function formatAddress(address: UdpAddress): string {
  if (typeof address?.hostname !== "string") {
    throw wrongValue("address", "an object with hostname and port", address);
  }
  const { hostname, port } = address;
  return hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
}

/**
 * The one spelling of a host that all comparing is done with: IPv6 as in RFC
 * 5952, an IPv4-mapped address (`::ffff:192.0.2.1`) as IPv4, a name in lower
 * case.
 *
 * @param hostname An IP address, or a host name.
 * @returns The canonical spelling.
 * @throws {TypeError} If it is no text.
 *
 * @example
 * ```ts
 * import { canonicalHostname } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(canonicalHostname("0:0:0:0:0:0:0:1"), "::1");
 * assertEquals(canonicalHostname("::ffff:127.0.0.1"), "127.0.0.1");
 * ```
 */
export function canonicalHostname(hostname: string): string {
  if (ipVersion(hostname) !== 6) return asciiHostname(hostname.toLowerCase());
  const { host } = new URL(`http://[${withoutZone(hostname)}]`);
  let canonical = host.slice(1, -1);
  // Perhaps IPv4-mapped.
  if (canonical.startsWith("::ffff:")) canonical = ipv6Text(bytesOf(canonical));
  const zone = canonical.includes(":") ? zoneOf(hostname) : undefined;
  return zone === undefined ? canonical : `${canonical}%${zone}`;
}

/**
 * The bytes of an IP address, as protocols carry it: in the order of the network
 * (RFC 791, RFC 4291). An IPv4-mapped address is IPv4, and a zone, which has a
 * meaning on this machine only, is left out.
 *
 * @param hostname An IP address in any spelling.
 * @returns 4 bytes of IPv4, 16 of IPv6.
 * @throws {SyntaxError} If it is no IP address, but a name for example.
 * @throws {TypeError} If it is no text.
 *
 * @example
 * ```ts
 * import { addressBytes, addressFromBytes } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = addressBytes("192.0.2.1");
 * assertEquals([...bytes], [192, 0, 2, 1]);
 * assertEquals(addressFromBytes(bytes), "192.0.2.1");
 * ```
 */
export function addressBytes(hostname: string): Uint8Array<ArrayBuffer> {
  if (ipVersion(hostname) === undefined) {
    throw new SyntaxError(
      `'${hostname}' is no IP address: resolve a name first`,
    );
  }
  return new Uint8Array(bytesOf(canonicalHostname(hostname)));
}

/** The bytes of an IP address in canonical form. */
function bytesOf(hostname: string): number[] {
  return hostname.includes(":")
    ? ipv6Groups(withoutZone(hostname)).flatMap((two) => [two >> 8, two & 255])
    : hostname.split(".").map(Number);
}

/**
 * The IP address of bytes, the inverse of {@linkcode addressBytes}.
 *
 * @param bytes 4 bytes of IPv4, or 16 of IPv6.
 * @returns The address in canonical form, an IPv4-mapped one as IPv4.
 * @throws {RangeError} If it is another number of bytes.
 */
export function addressFromBytes(bytes: Uint8Array): string {
  if (!(bytes instanceof Uint8Array)) {
    throw wrongValue("bytes", "a Uint8Array", bytes);
  }
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) {
    throw new RangeError(
      `An IP address has 4 or 16 bytes: there are ${bytes.length}`,
    );
  }
  return ipv6Text(bytes);
}

/** A name as the domain name system has it (IDNA): `xn--…` for other letters. */
function asciiHostname(hostname: string): string {
  const url = `http://${hostname}`;
  return /^\p{ASCII}*$/u.test(hostname) || !URL.canParse(url)
    ? hostname
    : new URL(url).hostname;
}

/**
 * Whether a host is written as an IPv4 address (4), an IPv6 address (6), or is
 * a name (undefined).
 *
 * @param hostname The host, without brackets.
 * @returns 4, 6 or undefined.
 * @throws {TypeError} If it is no text.
 *
 * @example
 * ```ts
 * import { ipVersion } from "@roundtrip/udp/address";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(ipVersion("192.0.2.1"), 4);
 * assertEquals(ipVersion("2001:db8::1"), 6);
 * assertEquals(ipVersion("localhost"), undefined);
 * ```
 */
export function ipVersion(hostname: string): 4 | 6 | undefined {
  requireText(hostname, "hostname", "without brackets");
  if (IPV4_REGEXP.test(hostname)) return 4;
  const address = withoutZone(hostname);
  return IPV6_CHARS_REGEXP.test(address) && URL.canParse(`http://[${address}]`)
    ? 6
    : undefined;
}

/**
 * Whether an IP address is one that stays on this machine: 127.0.0.0/8 or ::1.
 *
 * @param hostname An IP address in canonical form.
 * @returns True for loopback.
 * @throws {TypeError} If it is no text.
 *
 * @example
 * ```ts
 * import { isLoopback } from "@roundtrip/udp/address";
 * import { assert } from "@std/assert";
 *
 * assert(isLoopback("127.0.0.1") && !isLoopback("192.0.2.1"));
 * ```
 */
export function isLoopback(hostname: string): boolean {
  requireText(hostname, "hostname", "an IP address");
  return hostname === "::1" ||
    (hostname.startsWith("127.") && ipVersion(hostname) === 4);
}

/**
 * Whether an IP address is the wildcard, 0.0.0.0 or ::, on which a server
 * listens, and to which nothing can be sent.
 *
 * @param hostname An IP address in canonical form.
 * @returns True for the wildcard.
 *
 * @example
 * ```ts
 * import { isWildcard } from "@roundtrip/udp/address";
 * import { assert } from "@std/assert";
 *
 * assert(isWildcard("0.0.0.0") && isWildcard("::"));
 * ```
 */
export function isWildcard(hostname: string): boolean {
  return hostname === "0.0.0.0" || hostname === "::";
}

/** Whether a text can be a host: an IP address, or a name without a port. */
export function isHost(text: string): boolean {
  return ipVersion(text) !== undefined ||
    (/^[^\s/\[\]@?#:\0]+$/.test(text) && !NUMBER_REGEXP.test(text));
}

/** Whether a host is a name of the loopback address (RFC 6761). */
export function isLocalhost(hostname: string): boolean {
  return /^localhost\.?$/i.test(hostname);
}

/** The eight groups of an IPv6 address in canonical form, without a zone. */
export function ipv6Groups(hostname: string): number[] {
  requireText(hostname, "hostname", "an IPv6 address");
  const [head = "", tail = ""] = hostname.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === "" ? [] : tail.split(":");
  const zeros = Array(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].map((group) => parseInt(group, 16));
}

/**
 * The IPv6 address of 16 bytes in canonical form; without a parser, which takes
 * several times as long.
 */
export function ipv6Text(bytes: ArrayLike<number>, at = 0): string {
  const group = (i: number) => bytes[at + 2 * i]! << 8 | bytes[at + 2 * i + 1]!;
  let [start, longest, zeros] = [0, 1, 0];
  for (let i = 0; i < 8; i++) {
    zeros = group(i) === 0 ? zeros + 1 : 0;
    if (zeros > longest) [start, longest] = [i + 1 - zeros, zeros];
  }
  if (start === 0 && longest === 5 && group(5) === 0xffff) {
    return [12, 13, 14, 15].map((i) => bytes[at + i]).join(".");
  }
  let hostname = "";
  for (let i = 0; i < 8; i++) {
    if (longest > 1 && i === start) {
      hostname += "::";
      i += longest - 1;
    } else {
      const colon = hostname === "" || hostname.endsWith(":") ? "" : ":";
      hostname += colon + group(i).toString(16);
    }
  }
  return hostname;
}

/** A network: the first `bits` of its addresses are those of `groups`. */
export interface Network {
  /** The parts of an address: four of 8 bits, or eight of 16. */
  groups: number[];
  /** The number of the network's bits, from the left. */
  bits: number;
}

/**
 * Reads a network, such as `10.0.0.0/8`, `fd00::/8` or a single address.
 *
 * @throws {SyntaxError} If it is none.
 */
export function parseNetwork(text: string): Network {
  requireText(text, "text", "such as 192.0.2.0/24");
  const [address = "", prefix, ...rest] = text.split("/");
  const version = ipVersion(address);
  const most = version === 4 ? 32 : 128;
  const given = prefix === undefined ? most : Number(prefix);
  // An IPv4-mapped address is IPv4.
  const isMapped = version === 6 && ipVersion(canonicalHostname(address)) === 4;
  const bits = isMapped ? given - 96 : given;
  if (
    version === undefined || address.includes("%") || rest.length > 0 ||
    !/^\d{1,3}$/.test(prefix ?? "0") || given > most || bits < 0
  ) {
    throw new SyntaxError(
      `'${text}' is no network: write ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8`,
    );
  }
  return { groups: groupsOf(canonicalHostname(address)), bits };
}

/** Whether an IP address in canonical form is in a network. */
export function isInNetwork(
  { groups, bits }: Network,
  hostname: string,
): boolean {
  const own = groupsOf(withoutZone(hostname));
  if (own.length !== groups.length) return false;
  const width = groups.length === 4 ? 8 : 16;
  return groups.every((group, i) => {
    const compared = Math.min(Math.max(bits - i * width, 0), width);
    const ignored = width - compared;
    return group >> ignored === own[i]! >> ignored;
  });
}

function groupsOf(hostname: string): number[] {
  return hostname.includes(":")
    ? ipv6Groups(hostname)
    : hostname.split(".").map(Number);
}

/** Whether an IP address in canonical form is that of a multicast group. */
export function isMulticast(hostname: string): boolean {
  requireText(hostname, "hostname", "an IP address");
  if (hostname.includes(":")) return /^ff[0-9a-f]{2}:/.test(hostname);
  const first = parseInt(hostname, 10);
  return first >= 224 && first < 240;
}

/** Whether an IPv6 address is valid on one link only, without a zone that names it. */
export function isLinkLocal(hostname: string): boolean {
  return /^fe[89ab].:[^%]*$/.test(hostname);
}

/** An address without the `%zone` that names the interface of this machine. */
export function withoutZone(hostname: string): string {
  requireText(hostname, "hostname", "an IP address");
  return hostname.split("%", 1)[0]!;
}

/** The zone of an IPv6 address, such as `2` of `fe80::1%2`. */
export function zoneOf(hostname: string): string | undefined {
  requireText(hostname, "hostname", "an IP address");
  return hostname.split("%", 2)[1];
}

function splitHostPort(text: string): { host: string; port?: string } {
  if (text.startsWith("[")) {
    const bracketed = /^\[([^\]]*)\](?::(.*))?$/s.exec(text);
    if (bracketed === null || ipVersion(bracketed[1]!) !== 6) {
      throw new SyntaxError(`'${text}' is not [IPV6] or [IPV6]:PORT`);
    }
    const [, host, port] = bracketed;
    return port === undefined ? { host: host! } : { host: host!, port };
  }
  const colon = text.indexOf(":");
  if (colon === -1 || ipVersion(text) === 6) return { host: text };
  if (text.indexOf(":", colon + 1) !== -1) {
    throw new SyntaxError(
      `'${text}' has more than one colon: write an IPv6 address as [IPV6]:PORT`,
    );
  }
  return { host: text.slice(0, colon), port: text.slice(colon + 1) };
}

function requireText(text: unknown, name: string, form: string): void {
  if (typeof text !== "string") {
    throw wrongValue(name, `a string, ${form}`, text);
  }
}

/** The error of a wrong argument, in the words of a wrong option's. */
function wrongValue(name: string, words: string, value: unknown): TypeError {
  const isLong = typeof value === "object" && value !== null ||
    typeof value === "function";
  const shown = typeof value === "string"
    ? JSON.stringify(value).slice(0, 60)
    : isLong
    ? typeof value
    : String(value);
  return new TypeError(`'${name}' must be ${words}: current value is ${shown}`);
}

/** The end of a host that systems read as an IPv4 address: `127.1`, `0x7f000001`. */
const NUMBER_REGEXP = /(?:^|\.)(?:\d+|0x[\da-f]*)\.?$/i;

const IPV4_REGEXP = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/** Text that may be passed to `URL`: no `@`, `#` or the like, which it takes apart. */
const IPV6_CHARS_REGEXP = /^[\da-f:.]*:[\da-f:.]*$/i;
