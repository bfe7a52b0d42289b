import { assertEquals } from "@std/assert";
import type { UdpAddress } from "../../lib/address.ts";
import { request } from "../../lib/client/request.ts";
import { warmUp } from "../../lib/cli/runs/warm_up.ts";
import { netTest } from "../helpers.ts";

netTest(
  "warmUp(): a process runs its warm-up once, whoever waits for it",
  async () => {
    let runs = 0;
    const load = async (server: UdpAddress) => {
      runs++;
      await request(server, "ping");
    };
    await Promise.all([warmUp(load), warmUp(load)]);
    await warmUp(load);
    assertEquals(runs, 1);
  },
);
