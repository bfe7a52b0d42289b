/**
 * The local address of the client, by the name of an interface.
 *
 * @module
 */
import { ipVersion, type UdpAddress } from "../address.ts";
import type { Interface } from "../socket/multicast.ts";
import { denoRuntime } from "../socket/runtime.ts";
import type { OriginOptions } from "../client/target.ts";

/** Resolves the `localHostname` of a plan's options for a target. */
export function resolveOrigin<O extends OriginOptions>(
  options: O,
  target: UdpAddress,
): O {
  const { localHostname: bind } = options;
  return {
    ...options,
    localHostname: bind && localHostname(bind, target, interfaces()),
  };
}

/**
 * The address that `--bind` names: itself, or of the interface of that name the
 * first one of the target's IP version, IPv4 if the target is a name.
 */
export function localHostname(
  bind: string,
  target: UdpAddress,
  interfaces: readonly Interface[],
): string {
  const addresses = interfaces.filter(({ name }) => name === bind);
  if (addresses.length === 0) return bind;
  const wanted = ipVersion(target.hostname) ?? 4;
  const found = addresses.find(({ address }) => ipVersion(address) === wanted);
  return (found ?? addresses[0]!).address;
}

/** None where Deno may not list them: then only addresses and names will do. */
function interfaces(): readonly Interface[] {
  try {
    return denoRuntime.interfaces();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return [];
    throw error;
  }
}
