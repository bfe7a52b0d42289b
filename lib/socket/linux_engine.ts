/**
 * Adds the linux engine to the runtime. All that binds sockets for servers loads
 * it, and so do the doors of the library; `client.ts` does only for `--engine linux`
 * and `auto`, and starts sooner without it.
 *
 * @module
 */
import { clockState } from "./linux/clock.ts";
import { libcMissing } from "./linux/libc.ts";
import { openLinuxSocket } from "./linux/open.ts";
import { addLinuxEngine } from "./runtime.ts";

addLinuxEngine({ open: openLinuxSocket, clockState, missing: libcMissing });
