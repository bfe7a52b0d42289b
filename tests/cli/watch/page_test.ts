/** The page of `client --watch`, with made-up targets, in a real browser. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { pageOf } from "../../../lib/cli/watch/page.ts";
import { byTrouble, type Row, type Update } from "../../../lib/cli/show/row.ts";
import { programTest } from "../../helpers.ts";
import { BROWSER, Browser } from "./browser.ts";

const NOW = Date.UTC(2026, 10, 28, 12);

function rowOf(name: string, own: Partial<Row> = {}): Row {
  return {
    ...{ name, address: "192.0.2.1:7", labels: {}, state: "up" },
    ...{ since: NOW - 3_600_000, lossNow: 0, lossHour: 0, medianMs: 1 },
    ...{ p99Ms: 2, lastOutage: null, missed: [], version: 1, ...own },
  };
}

/** A server of the page, its stream and its pictures. */
async function served(targets: Row[], hasHistory = false) {
  const { html, policy } = await pageOf(hasHistory);
  const streams = new Set<ReadableStreamDefaultController<Uint8Array>>();
  /** The paths of the pictures that were loaded. */
  const pictures: string[] = [];
  const encoder = new TextEncoder();
  const bytesOf = (update: Partial<Update>) => {
    const whole = { now: NOW, isAll: false, targets: [], gone: [], ...update };
    return encoder.encode(`data: ${JSON.stringify(whole)}\n\n`);
  };
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen() {},
  }, (request) => {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/") {
      const type = { "content-type": "text/html; charset=utf-8" };
      const headers = { ...type, "content-security-policy": policy };
      return new Response(html, { headers });
    }
    if (pathname === "/plot.svg") {
      pictures.push(search);
      const svg = `<svg xmlns="http://www.w3.org/2000/svg"/>`;
      return new Response(svg, {
        headers: { "content-type": "image/svg+xml" },
      });
    }
    if (made.isRefusing) return new Response(null, { status: 503 });
    let own: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({
      start(stream) {
        streams.add(own = stream);
        stream.enqueue(encoder.encode("retry: 50\n"));
        stream.enqueue(bytesOf({ targets, isAll: true }));
      },
      cancel: () => void streams.delete(own),
    });
    const headers = { "content-type": "text/event-stream" };
    return new Response(body, { headers });
  });
  const end = () => {
    for (const stream of streams) stream.close();
    streams.clear();
  };
  const made = {
    url: `http://127.0.0.1:${server.addr.port}/`,
    pictures,
    /** Whether the server refuses streams. */
    isRefusing: false,
    send(update: Partial<Update>) {
      for (const stream of streams) stream.enqueue(bytesOf(update));
    },
    end,
    async [Symbol.asyncDispose]() {
      end();
      await server.shutdown();
    },
  };
  return made;
}

/** The page of these targets, loaded. */
async function opened(
  url: string,
  width = 1400,
  source = "",
): Promise<Browser> {
  const browser = await Browser.open(width);
  await browser.call("Page.addScriptToEvaluateOnNewDocument", { source });
  await browser.goTo(url);
  await browser.until("document.querySelector('tbody tr') !== null");
  return browser;
}

const NAMES = "[...document.querySelectorAll('tbody tr:not([hidden]) a')]" +
  ".map((link) => link.textContent)";
const textOf = (selector: string) =>
  `document.querySelector(${JSON.stringify(selector)}).textContent`;
const FOCUS = "document.activeElement.textContent";

Deno.test("byTrouble(): down the longest, missed thresholds, loss, p99, name; waiting last", () => {
  const rows = [
    rowOf("down longest", { state: "down", since: NOW - 2000, lossNow: 90 }),
    rowOf("down", { state: "down", since: NOW - 1000, lossNow: 100 }),
    rowOf("missed two", { missed: ["loss", "p99"] }),
    rowOf("missed", { missed: ["loss"], lossNow: 1 }),
    rowOf("loss now", { lossNow: 50, lossHour: 1 }),
    rowOf("loss in the hour", { lossHour: 2 }),
    rowOf("slow", { p99Ms: 3 }),
    rowOf("a"),
    rowOf("b"),
    rowOf("new", { state: "waiting", lossNow: null, p99Ms: null }),
  ];
  const names = (sorted: Row[]) => sorted.map(({ name }) => name);
  assertEquals(names(rows.toReversed().sort(byTrouble)), names(rows));
  assertEquals(names(rows.toSorted(byTrouble)), names(rows));
});

Deno.test("pageOf(): the policy has the hash of the only script, and a choice of spans needs a history", async () => {
  const { html, policy } = await pageOf(false);
  const scripts = [...html.matchAll(/<script>([^]*?)<\/script>/g)];
  assertEquals(scripts.length, 1);
  const bytes = new TextEncoder().encode(scripts[0]![1]);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  assertMatch(policy, /^default-src 'none'; /);
  assert(policy.includes(`script-src 'sha256-${hash.toBase64()}'`), policy);
  assertEquals(html.match(/https?:/g), null);
  assertMatch(html, /<label hidden>/);
  assertMatch((await pageOf(true)).html, /<label >/);
});

programTest("page: sorts by trouble, and follows the changes", async () => {
  const [a, b] = [rowOf("a", { labels: { site: "x" } }), rowOf("b")];
  await using site = await served([a, b, rowOf("c", { lossNow: 5 })]);
  await using page = await opened(site.url);
  assertEquals(await page.value(NAMES), ["c", "a", "b"]);
  assertEquals(
    await page.value(textOf(".summary")),
    "0 of 3 targets down, 0 with a threshold missed",
  );
  assertEquals(await page.value("document.title"), "roundtrip");
  // The focus stays on a row that moves, and its elements are the same.
  await page.value("document.querySelectorAll('tbody a')[2].focus()");
  await page.value("window.before = document.activeElement");
  const outage = { at: NOW - 60_000, seconds: null, datagrams: 9 };
  const down = { state: "down", since: NOW - 300_000, lossNow: 100 } as const;
  site.send({
    targets: [{ ...b, ...down, lastOutage: outage }, rowOf("d")],
    gone: ["c"],
  });
  await page.until("document.title === '(1 down) roundtrip'");
  assertEquals(await page.value(NAMES), ["b", "a", "d"]);
  assert(await page.value("document.activeElement === window.before"));
  const cells = "[...document.querySelector('tbody tr').children]" +
    ".map((cell) => cell.textContent.replaceAll('\\u00a0', ' '))";
  assertEquals(await page.value(cells), [
    ...["b", "down 5 min", "100%", "0%", "1", "2", "now, for 60 s", "\n"],
  ]);
  const lasted = { at: NOW - 300_000, seconds: 35, datagrams: 35 };
  const missed = ["loss is 2%, more than 1%"];
  const small = "document.querySelector('tbody img').getAttribute('src')";
  assertEquals(await page.value(small), "plot.svg?target=b&small&v=1");
  site.send({ targets: [{ ...b, missed, lastOutage: lasted, version: 2 }] });
  await page.until(`${textOf("tbody tr")}.includes('threshold missed')`);
  assertEquals(await page.value(small), "plot.svg?target=b&small&v=2");
  assertMatch(await page.value(textOf("tbody tr")), /35\ss, 4\.4\smin ago/);
  // The filter has words of names, addresses and labels.
  await page.value("document.querySelector('input').focus()");
  await page.call("Input.insertText", { text: "site=X 192.0" });
  await page.until(`${textOf(".shown")} === '1 target shown'`);
  assertEquals(await page.value(NAMES), ["a"]);
  // All targets anew, as after a new connection.
  site.send({ targets: [a], isAll: true });
  await page.until(`${textOf(".summary")}.startsWith('0 of 1 target down')`);
  assertEquals(page.errors, []);
}, BROWSER);

programTest(
  "page: opens and closes a target by keyboard, address and history",
  async () => {
    const odd = "<b>&amp; #1 %41 ?x";
    const labels = { site: "<i>x</i>" };
    const missed = ["loss is 2%, more than 1%"];
    const rows = [rowOf("a"), rowOf(odd, { lossNow: 9, labels, missed })];
    await using site = await served(rows, true);
    await using page = await opened(site.url);
    for (const _ of ["the filter", "the first row"]) await page.press("Tab");
    assertEquals(await page.value(FOCUS), odd);
    await page.press("Enter");
    await page.until("document.activeElement.tagName === 'H2'");
    assertEquals(await page.value(FOCUS), odd);
    const facts = await page.value<string>(textOf("section"));
    for (const text of ["<i>x</i>", missed[0]!, "192.0.2.1:7", "9% now"]) {
      assert(facts.includes(text), `${text}: ${facts}`);
    }
    assertEquals(
      await page.value("document.querySelectorAll('b, i').length"),
      0,
    );
    const large = () => site.pictures.filter((one) => one.includes("span"));
    const query = `?target=${encodeURIComponent(odd)}&span=`;
    const loaded = "document.querySelector('section img').complete";
    await page.until(loaded);
    assertEquals(large(), [`${query}hour&v=1`]);
    await page.value(`const select = document.querySelector('select');
    select.value = 'month'; select.dispatchEvent(new Event('change'))`);
    site.send({ targets: [{ ...rows[1]!, version: 2 }] });
    await page.until(`performance.getEntriesByName(
    new URL('plot.svg${query}month&v=2', location).href).length > 0`);
    await page.press("Escape");
    await page.until("document.querySelector('section').hidden");
    assertEquals(await page.value(FOCUS), odd);
    await page.value("history.back()");
    await page.until("document.activeElement.tagName === 'H2'");
    // A link to a target, and one to none.
    await page.goTo(`${site.url}?#a`);
    await page.until("document.activeElement.textContent === 'a'");
    await page.goTo(`${site.url}?again#%E0%A4%A`);
    await page.until("document.querySelector('tbody tr') !== null");
    assert(await page.value("document.querySelector('section').hidden"));
    assertEquals(page.errors, []);
  },
  BROWSER,
);

programTest(
  "page: is a table without overflow at 360 pixels, in light and dark",
  async () => {
    const rows = [
      rowOf("x".repeat(300), { missed: ["loss"] }),
      rowOf("שרת", { state: "down", why: "y".repeat(300) }),
      rowOf("a long name of several words, in a long sentence"),
    ];
    await using site = await served(rows);
    await using page = await opened(site.url, 360);
    for (const hash of ["", encodeURIComponent("שרת")]) {
      await page.value(`location.hash = '${hash}'`);
      await page.until(
        `document.querySelector('section').hidden === ${hash === ""}`,
      );
      const widths = await page.value<[number, number]>(
        "[document.documentElement.scrollWidth, innerWidth]",
      );
      assertEquals(widths, [360, 360]);
    }
    const { nodes } = await page.call("Accessibility.getFullAXTree");
    const named = (role: string) =>
      nodes.filter((node: { role?: { value: string } }) =>
        node.role?.value === role
      ).map((node: { name: { value: string } }) => node.name.value);
    assertEquals(named("table"), ["Targets, by trouble"]);
    assertEquals(named("columnheader"), [
      ...["target", "state", "loss now", "median RTT, ms", "last outage"],
    ]);
    assertEquals(named("rowheader").length, 3);
    assertEquals(named("row").length, 4);
    const backgrounds = new Set<string>();
    for (const value of ["light", "dark"]) {
      const features = [{ name: "prefers-color-scheme", value }];
      await page.call("Emulation.setEmulatedMedia", { features });
      backgrounds.add(
        await page.value("getComputedStyle(document.body).backgroundColor"),
      );
    }
    assertEquals(backgrounds.size, 2);
  },
  BROWSER,
);

programTest("page: reports a lost connection, and connects again", async () => {
  await using site = await served([rowOf("a")]);
  // The page looks after its connection a hundred times as often, by a clock
  // that stands still.
  const faster = "const real = setInterval; let time = 0;" +
    "setInterval = (look, ms) => real(look, ms / 100);" +
    "performance.now = () => time";
  await using page = await opened(site.url, 1400, faster);
  assertEquals(await page.value(textOf(".connection")), "");
  site.isRefusing = true;
  site.end();
  // The browser itself makes no further attempt after this answer.
  await page.until("events.readyState === EventSource.CLOSED");
  await page.until(`${textOf(".connection")} !== ''`);
  assertMatch(
    await page.value(textOf(".connection")),
    /^not connected since 2026-11-28 \d\d:\d\d:\d\d UTC, the figures are old$/,
  );
  site.isRefusing = false;
  await page.until(`${textOf(".connection")} === ''`);
  // A stream that is silent for half a minute is replaced.
  await page.value("window.before = events; time += 31_000; 0");
  await page.until("events !== window.before && events.readyState === 1");
}, BROWSER);
