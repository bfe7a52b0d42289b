/** The rule that lib/ drops no promise: a rejection would end the user's process. */
import { assertEquals } from "@std/assert";
import { readTest, textsBelow } from "./helpers.ts";

/** Names of asynchronous functions, and calls whose value is dropped. */
interface Found {
  /** Functions that are called by name alone: their files and names. */
  functions: Set<string>;
  /** The files and names of imports, by their names here. */
  imports: Map<string, string>;
  /** Names of methods, for calls on `this` in the same file. */
  methods: Set<string>;
  calls: Array<{ name: string; owner: string; text: string; count: number }>;
}

function search(path: string, source: string): Found {
  const found: Found = {
    functions: new Set(),
    imports: new Map(),
    methods: new Set(),
    calls: [],
  };
  const create = ({ sourceCode }: Deno.lint.RuleContext) => {
    const textOf = (node: Deno.lint.Node) => sourceCode.getText(node);
    const isAsync = (
      node: { async: boolean; returnType?: Deno.lint.Node | undefined },
    ) =>
      node.async ||
      (node.returnType !== undefined &&
        /^:?\s*Promise</.test(textOf(node.returnType)));
    const drop = (node: Deno.lint.Node): void => {
      if (node.type === "UnaryExpression") return drop(node.argument);
      if (node.type !== "CallExpression") return;
      const { callee } = node;
      const isMember = callee.type === "MemberExpression";
      found.calls.push({
        name: textOf(isMember ? callee.property : callee),
        owner: isMember ? textOf(callee.object) : "",
        text: `${path}: ${textOf(node)}`,
        count: node.arguments.length,
      });
    };
    return {
      FunctionDeclaration(node: Deno.lint.FunctionDeclaration) {
        if (node.id && isAsync(node)) {
          found.functions.add(`${path} ${node.id.name}`);
        }
      },
      ImportDeclaration({ source, specifiers }: Deno.lint.ImportDeclaration) {
        const from = new URL(source.value, `file:///${path}`).pathname;
        for (const { local: { name } } of specifiers) {
          found.imports.set(name, `${from.slice(1)} ${name}`);
        }
      },
      MethodDefinition(node: Deno.lint.MethodDefinition) {
        if (isAsync(node.value)) found.methods.add(textOf(node.key));
      },
      ExpressionStatement(node: Deno.lint.ExpressionStatement) {
        drop(node.expression);
      },
      UnaryExpression(node: Deno.lint.UnaryExpression) {
        if (node.operator === "void") drop(node);
      },
    } as Deno.lint.LintVisitor;
  };
  const plugin = { name: "promises", rules: { search: { create } } };
  Deno.lint.runPlugin(plugin, path, source);
  return found;
}

/**
 * Finds statements whose promise is dropped: calls of asynchronous functions, and
 * chains that end neither in `catch` nor in a `then` with both callbacks. Calls of
 * methods of other objects are not judged, as their types are not known here.
 */
function droppedPromises(sources: Map<string, string>): string[] {
  const all = [...sources].map(([path, text]) => ({
    path,
    ...search(path, text),
  }));
  const functions = new Set(all.flatMap(({ functions }) => [...functions]));
  return all.flatMap(({ path, calls, methods, imports }) =>
    calls.filter(({ name, owner, count }) =>
      (owner === "" &&
        functions.has(imports.get(name) ?? `${path} ${name}`)) ||
      (owner === "this" && methods.has(name)) ||
      name === "finally" || (name === "then" && count < 2)
    ).map(({ text }) => text)
  );
}

readTest("lib/: drops no promise of its own", async () => {
  assertEquals(droppedPromises(await textsBelow("lib/")), []);
});

Deno.test("droppedPromises(): finds each form", () => {
  const source = `async function one() {}
    class A {
      async #two() {}
      three(): Promise<void> { return this.#two(); }
      four() { one(); void one(); this.#two(); this.three(); }
      five() { const f = () => void this.three(); f(); }
      six(a: Promise<void>) { a.then(() => {}); a.finally(() => {}); }
      fine(a: Promise<void>) {
        a.then(() => {}, () => {});
        this.#two().catch(() => {});
        return one();
      }
    }`;
  const found = droppedPromises(new Map([["a.ts", source]]));
  assertEquals(found, [
    "a.ts: one()",
    "a.ts: one()",
    "a.ts: one()",
    "a.ts: this.#two()",
    "a.ts: this.three()",
    "a.ts: this.three()",
    "a.ts: a.then(() => {})",
    "a.ts: a.finally(() => {})",
  ]);
});
