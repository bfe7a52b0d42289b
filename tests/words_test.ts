/** The worst words of CONTRIBUTING.md's "Words", counted in comments and pages. */
import { assert } from "@std/assert";
import { readTest, ROOT, textsBelow } from "./helpers.ts";

/** Patterns, and the hits allowed to each in 10,000 words; to be lowered. */
const LIMITS: ReadonlyArray<readonly [RegExp, number]> = [
  [/^(What|Who|Whom|How|Whoever|Whatever)\b/, 2],
  [/\b(who|whom)\b/i, 1],
  [/\b(told|tells?|telling)\b/i, 1],
  [/\b(became|becomes?|came) of\b/i, 1],
  [/\bso (many|long)\b(?! (as|that))/i, 1],
  [/\b(on (its|their|the)|under) way\b/i, 1],
  [/\bgiv(en?|es|ing) up\b/i, 1],
  [/\b(asks?|asked) (again|anew)\b/i, 1],
  [/\b(goes|going|went) on\b/i, 1],
];

/** The sentences of a page's paragraphs, or of a source's comments. */
function sentencesOf(path: string, text: string): string[] {
  const parts = path.endsWith(".md")
    ? text.replaceAll(/^```[^]*?^```/gm, "").split(/\n\s*\n|\n- |\|/)
    : text.match(/\/\*\*[^]*?\*\/|(^ *\/\/.*\n)+/gm) ?? [];
  return parts.flatMap((part) =>
    part.replaceAll(/```[^]*?```/g, "").replaceAll(/`[^`]*`/g, "X")
      .replaceAll(/^ *(\/\*\*|\*\/?|\/\/)|\*\/$/gm, " ")
      .replaceAll(/\s+/g, " ").trim().split(/(?<=[.;:]) /)
  );
}

readTest("comments, pages: have few of the worst words", async () => {
  const texts = [
    ...await textsBelow("lib/"),
    ...await textsBelow("docs/", ".md"),
    ...await Promise.all(
      ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(async (path) =>
        [path, await Deno.readTextFile(new URL(path, ROOT))] as const
      ),
    ),
  ];
  const sentences = texts.flatMap(([path, text]) =>
    sentencesOf(path, text).map((sentence) => ({ path, sentence }))
  );
  const words = sentences.reduce(
    (sum, { sentence }) => sum + sentence.split(" ").length,
    0,
  );
  assert(words > 30_000, `${words} words found`);
  for (const [pattern, limit] of LIMITS) {
    const hits = sentences.filter(({ sentence }) => pattern.test(sentence));
    const rate = 10_000 * hits.length / words;
    const shown = hits.map(({ path, sentence }) => `${path}: ${sentence}`);
    const found = `${rate.toFixed(1)} in 10,000 words, at most ${limit}`;
    assert(rate <= limit, `${pattern}: ${found}\n${shown.join("\n")}`);
  }
});

readTest("tests: a title is a symbol, then its behaviour", async () => {
  let count = 0;
  for (const [path, text] of await textsBelow("tests/")) {
    const titles = text.matchAll(
      /(?:\.test|^\w*Test)\(\s*(?:"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/gm,
    );
    for (const [, plain, template] of titles) {
      const title = (plain ?? template)!;
      if (title.startsWith("${name} (")) continue;
      assert(/^\S.{0,60}?: \S/.test(title), `${path}: ${title}`);
      count++;
    }
  }
  assert(count > 500, `${count} titles found`);
});
