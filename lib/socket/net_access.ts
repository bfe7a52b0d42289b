/**
 * The permission for the network: queried, so that nothing on a datagram's path
 * prompts.
 *
 * @module
 */
import { formatAddress, type UdpAddress } from "../address.ts";
import { RecentMap } from "../base/recent_map.ts";

/** The descriptor of the permission for an address. */
export function netAccess(address: UdpAddress): Deno.NetPermissionDescriptor {
  return { name: "net", host: formatAddress(address) };
}

/** Whether an address may be used without a question to the user. */
export function isPermitted(address: UdpAddress): boolean {
  return Deno.permissions.querySync(netAccess(address)).state === "granted";
}

/** Fails without a permission for an address, where Deno would ask the user. */
export function requireNet(address: UdpAddress): void {
  if (!isPermitted(address)) throw refusalOf(address);
}

/**
 * The limits of the permission; undefined where it is granted in full, or with
 * exceptions that need no heed.
 */
export function limitedNet(
  heedsDenials = true,
): NetAccess | undefined {
  const { state, partial } = Deno.permissions.querySync({ name: "net" });
  const isLimited = state !== "granted" || heedsDenials && partial;
  return isLimited ? new NetAccess() : undefined;
}

/** The permission for the destinations of one socket, each queried once. */
export class NetAccess {
  readonly #known = new RecentMap<string, boolean>(MAX_KNOWN);
  #last: UdpAddress | undefined;

  /** The error of sending to an address that is not granted. */
  refusal(to: UdpAddress): Error | undefined {
    if (to === this.#last) return undefined;
    const key = formatAddress(to);
    let isGranted = this.#known.get(key);
    if (isGranted === undefined) {
      isGranted = isPermitted(to);
      this.#known.set(key, isGranted);
    }
    if (!isGranted) return refusalOf(to);
    this.#last = to;
  }
}

function refusalOf(address: UdpAddress): Error {
  const { hostname } = address;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return new Deno.errors.NotCapable(
    `Requires net access to "${formatAddress(address)}", run again with ` +
      `--allow-net, or with --allow-net=${host} for all of its ports`,
  );
}

/** The destinations remembered by a socket. */
const MAX_KNOWN = 1024;
