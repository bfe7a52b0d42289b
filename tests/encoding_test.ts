import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  bytesLiteral,
  decode,
  encode,
  parseHex,
  repeatTo,
  textOrHex,
} from "../lib/encoding.ts";

Deno.test("encode(): converts text to UTF-8 and returns bytes unchanged", () => {
  assertEquals(encode("é\0"), new Uint8Array([0xc3, 0xa9, 0]));
  const bytes = new Uint8Array([1]);
  assert(encode(bytes) === bytes);
});

Deno.test("decode(): inverts encode(), and refuses other bytes", () => {
  for (const text of ["", "Hello", "é\0\n", "\uFEFFwith a mark", "🙂"]) {
    assertEquals(decode(encode(text)), text);
  }
  for (const bytes of [[0xff], [0xc3], [0xed, 0xa0, 0x80]]) {
    assertEquals(decode(new Uint8Array(bytes)), undefined);
  }
});

Deno.test("textOrHex(): returns either text or hex", () => {
  assertEquals(textOrHex(encode("")), { text: "" });
  assertEquals(textOrHex(new Uint8Array([0, 0xff])), { hex: "00ff" });
});

Deno.test("parseHex(): reads pairs of digits with any separators", () => {
  for (
    const text of ["48656C", "0x48656c", "48 65 6c", "48:65:6c", " 4865 6c\n"]
  ) {
    assertEquals(parseHex(text), encode("Hel"), text);
  }
  assertEquals(parseHex(""), new Uint8Array());
  for (const text of ["4", "486", "4 8", "zz", "48,65", "-1"]) {
    assertThrows(() => parseHex(text), SyntaxError, "hex digits", text);
  }
});

Deno.test("repeatTo(): repeats or truncates bytes, and fills with zeros if there are none", () => {
  assertEquals(repeatTo(encode("abc"), 7), encode("abcabca"));
  assertEquals(repeatTo(encode("abc"), 2), encode("ab"));
  assertEquals(repeatTo(encode("abc"), 0), encode(""));
  assertEquals(repeatTo(encode(""), 2), new Uint8Array(2));
});

Deno.test("bytesLiteral(): writes each byte as Python does, in double quotes", () => {
  assertEquals(bytesLiteral(encode("")), 'b""');
  assertEquals(bytesLiteral(encode("it's")), `b"it's"`);
  assertEquals(bytesLiteral(encode('a\\b"c')), 'b"a\\\\b\\"c"');
  assertEquals(
    bytesLiteral(encode("\t\n\r\0\x7fé")),
    'b"\\t\\n\\r\\x00\\x7f\\xc3\\xa9"',
  );
  assertEquals(bytesLiteral(encode(" ~")), 'b" ~"');
});
