/**
 * The ends of a run as its flags name them: address, interface and key.
 *
 * @module
 */
import { ipVersion, type UdpAddress } from "../../address.ts";
import type { OriginOptions } from "../../client/target.ts";
import type { Interface } from "../../socket/multicast.ts";
import {
  addressesOf,
  denoRuntime,
  type Engine,
  type Runtime,
  runtimeFor,
} from "../../socket/runtime.ts";
import type { ClientPlan, PlanOf } from "../client_plan.ts";
import type { keyOf } from "../key_file.ts";

/** A target by its first address of a version, where one is given. */
export async function addressed(
  target: UdpAddress,
  version: ClientPlan["version"],
  runtime: Runtime = denoRuntime,
): Promise<UdpAddress> {
  if (version === undefined) return target;
  const addresses = await addressesOf(target.hostname, runtime);
  const hostname = addresses.find((one) => ipVersion(one) === version);
  if (hostname !== undefined) return { ...target, hostname };
  throw new Error(
    `Cannot send to '${target.hostname}': it has no IPv${version} address`,
  );
}

/** The key of a target, by the key file of a plan if it has one. */
export async function keyFor(
  plan: PlanOf<"stamp">,
  remoteAddr: UdpAddress,
): Promise<Uint8Array | undefined> {
  const { keyFile, options: { ssid = 0 } } = plan;
  const key = (await keysOf(keyFile))?.({ ssid, remoteAddr });
  if (key !== undefined || keyFile === undefined) return key;
  throw new Error(`--key-file ${keyFile}: it has no key for this target`);
}

/** The keys of a file, which is read once for all runs. */
export function keysOf(keyFile: string | undefined) {
  if (keyFile === undefined) return undefined;
  let keys = keyFiles.get(keyFile);
  if (keys === undefined) {
    keys = import("../key_file.ts").then(async ({ keyOf, readKeys }) =>
      keyOf(await readKeys(keyFile))
    );
    keyFiles.set(keyFile, keys);
    // A later run tries again.
    keys.catch(() => keyFiles.delete(keyFile));
  }
  return keys;
}

/** Has the files read again by the next runs. */
export function forgetKeys(): void {
  keyFiles.clear();
}

const keyFiles = new Map<string, Promise<ReturnType<typeof keyOf>>>();

/**
 * The options with the address that `--bind` names: itself, or of the interface of
 * that name the first one of the target's IP version, IPv4 if the target is a name.
 */
export function resolveOrigin<O extends OriginOptions>(
  options: O,
  target: UdpAddress,
): O {
  const { localHostname: bind } = options;
  if (bind === undefined) return options;
  const addresses = interfaces().filter(({ name }) => name === bind)
    .map(({ address }) => address);
  const wanted = ipVersion(target.hostname) ?? 4;
  const found = addresses.find((address) => ipVersion(address) === wanted);
  return { ...options, localHostname: found ?? addresses[0] ?? bind };
}

/** None where Deno may not list them: `--bind` is then an address or a name. */
function interfaces(): readonly Interface[] {
  try {
    return denoRuntime.interfaces();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return [];
    throw error;
  }
}

/**
 * Look-ups of names, few of which are in flight: the system has few threads for them,
 * and those that wait for a name server would hold up files and messages.
 */
class LookUps {
  #running = 0;
  readonly #waiting: Array<() => void> = [];
  readonly #inFlight = new Map<string, Promise<string[]>>();

  /** Looks a name up; calls for one name share the look-up in flight. */
  resolve(hostname: string): Promise<string[]> {
    let addresses = this.#inFlight.get(hostname);
    if (addresses === undefined) {
      addresses = this.#resolve(hostname)
        .finally(() => this.#inFlight.delete(hostname));
      this.#inFlight.set(hostname, addresses);
    }
    return addresses;
  }

  async #resolve(hostname: string): Promise<string[]> {
    if (this.#running < MAX_RUNNING) this.#running++;
    else await new Promise<void>((next) => this.#waiting.push(next));
    try {
      return await denoRuntime.resolve(hostname);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

/** Those of targets; and of probes, whose slow names hold up no target. */
const LOOK_UPS = { target: new LookUps(), probe: new LookUps() };

/** The runtime of one run of an engine: bounded look-ups, one for each name. */
export function boundedRuntime(
  engine: Engine,
  owner: keyof typeof LOOK_UPS = "target",
): Runtime {
  const found = new Map<string, Promise<string[]>>();
  const resolve = (hostname: string) => {
    let addresses = found.get(hostname);
    if (addresses === undefined) {
      addresses = LOOK_UPS[owner].resolve(hostname);
      found.set(hostname, addresses);
    }
    return addresses;
  };
  return Object.create(runtimeFor(engine), { resolve: { value: resolve } });
}

/** Look-ups in flight, of targets or of probes. */
const MAX_RUNNING = 4;
