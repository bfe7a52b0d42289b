/** A browser without a window, driven by the DevTools protocol. */
import { TextLineStream } from "../text_lines.ts";
import { tempFolder } from "../../helpers.ts";

/** The programs that it needs; `timeout` bounds a test that hangs. */
export const BROWSER = ["chromium", "timeout"];

/** A page in a browser of its own, which ends at disposal. */
export class Browser implements AsyncDisposable {
  #count = 0;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #closed = Promise.withResolvers<void>();
  /** The errors that the page reported. */
  readonly errors: string[] = [];

  private constructor(
    readonly socket: WebSocket,
    readonly process: Deno.ChildProcess,
    readonly folder: AsyncDisposable,
    readonly rest: Promise<void>,
  ) {
    socket.onmessage = ({ data }) => {
      const { id, method, params, result, error } = JSON.parse(data);
      const waiting = this.#pending.get(id);
      this.#pending.delete(id);
      if (error) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result);
      const isError = method === "Runtime.exceptionThrown" ||
        method === "Log.entryAdded" && params.entry.level === "error";
      if (isError) this.errors.push(JSON.stringify(params));
    };
    socket.onclose = () => {
      for (const { reject } of this.#pending.values()) reject(new Ended());
      this.#closed.resolve();
    };
  }

  /** Starts a browser whose page is `width` pixels wide. */
  static async open(width: number): Promise<Browser> {
    const folder = await tempFolder();
    const process = new Deno.Command("timeout", {
      args: [
        ...["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu"],
        ...["--disable-dev-shm-usage", `--user-data-dir=${folder.path}`],
        ...["--remote-debugging-port=0", "about:blank"],
      ],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const found = Promise.withResolvers<string>();
    const lines = process.stderr.pipeThrough(new TextLineStream());
    const rest = lines.pipeTo(
      new WritableStream({
        write(line) {
          const port = /DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(line);
          if (port !== null) found.resolve(port[1]!);
        },
        close: () => found.reject(new Error("the browser has not started")),
      }),
    );
    const list = await fetch(`http://127.0.0.1:${await found.promise}/json`);
    const pages: Array<{ type: string; webSocketDebuggerUrl: string }> =
      await list.json();
    const page = pages.find(({ type }) => type === "page")!;
    const socket = new WebSocket(page.webSocketDebuggerUrl);
    await new Promise((resolve) => socket.onopen = resolve);
    const browser = new Browser(socket, process, folder, rest);
    for (const name of ["Page", "Runtime", "Log"]) {
      await browser.call(`${name}.enable`);
    }
    await browser.call("Emulation.setDeviceMetricsOverride", {
      ...{ width, height: 740, deviceScaleFactor: 1, mobile: width < 500 },
    });
    return browser;
  }

  /** Calls a method of the protocol. */
  // deno-lint-ignore no-explicit-any -- the results of the protocol have no types
  call(method: string, params = {}): Promise<any> {
    if (this.socket.readyState !== WebSocket.OPEN) throw new Ended();
    const waiting = Promise.withResolvers<unknown>();
    this.#pending.set(++this.#count, waiting);
    this.socket.send(JSON.stringify({ id: this.#count, method, params }));
    return waiting.promise;
  }

  /** The value of an expression in the page. */
  async value<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", {
      ...{ expression, awaitPromise: true, returnByValue: true },
    });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** Waits until an expression holds in the page. */
  async until(expression: string): Promise<void> {
    await this.value(`new Promise((resolve) => {
      const look = () => (${expression}) ? resolve(true) : setTimeout(look, 5);
      look();
    })`);
  }

  /** Loads a page. */
  async goTo(url: string): Promise<void> {
    await this.call("Page.navigate", { url });
    await this.until("document.readyState === 'complete'");
  }

  /** Presses a key. */
  async press(key: "Tab" | "Enter" | "Escape"): Promise<void> {
    const windowsVirtualKeyCode = { Tab: 9, Enter: 13, Escape: 27 }[key];
    const text = key === "Enter" ? "\r" : "";
    for (const type of ["keyDown", "keyUp"]) {
      await this.call("Input.dispatchKeyEvent", {
        ...{ type, key, code: key, windowsVirtualKeyCode, text },
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.socket.readyState === WebSocket.OPEN) {
      await this.call("Browser.close");
    }
    await this.process.status;
    await this.#closed.promise;
    await this.rest;
    await this.folder[Symbol.asyncDispose]();
  }
}

class Ended extends Error {
  override message = "the browser has ended";
}
