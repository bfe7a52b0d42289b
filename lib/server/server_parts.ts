/**
 * The parts and limits of a server, as its options make them.
 *
 * @module
 */
import type { GroupOptions } from "../socket/memberships.ts";
import type { Links } from "../socket/multicast.ts";
import type { Runtime } from "../socket/runtime.ts";
import type { Guard } from "./guard.ts";
import type { Handler } from "./handler.ts";
import type { Hooks } from "./udp_server.ts";

/** The parts and limits of a server, checked. */
export interface ServerParts extends Hooks {
  handler: Handler;
  lend: boolean;
  maxInFlight: number;
  maxReplies: number;
  handlerTimeoutMs: number;
  groupDelayMs: number;
  guard: Guard | undefined;
  /** Whether loops are ended. */
  loops: boolean;
  /** The links whose members are answered when they ask a group; undefined: all. */
  links: Links | undefined;
  /** Whether no others are, once a group is joined. */
  answersLinksOnly: boolean;
  groups: GroupOptions;
  runtime: Runtime;
  signal: AbortSignal | undefined;
  onClosed(): void;
}
