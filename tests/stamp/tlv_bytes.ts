/** What the tests of STAMP's extensions share: a key, and bytes as text. */

export const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);

/** Bytes of hex digits, between which there may be spaces. */
export const hex = (text: string) =>
  Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

/** The digits without the spaces. */
export const shown = (text: string) => hex(text).toHex();
