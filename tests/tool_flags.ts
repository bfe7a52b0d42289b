/** The command lines of the tools in this folder. */
// deno-lint-ignore-file no-console -- a part of programs
import {
  COMMON_FLAGS,
  type Flags,
  type Given,
  group,
  isText,
  parseCommand,
  UsageError,
} from "../lib/cli/flags.ts";

/**
 * Reads the flags of `deno task` TOOL, or prints `--help`, or one line about a
 * mistake, and ends the program.
 */
export async function toolFlags<const F extends Flags>(
  tool: string,
  about: string,
  flags: F,
): Promise<Given<F>> {
  const shown = group({ group: "Flags", everyday: true }, flags as Flags);
  try {
    const command = parseCommand({
      flags: { ...shown, ...COMMON_FLAGS },
      modes: { run: `deno task ${tool}` },
      name: tool,
      summary: about,
      synopsis: "[flags]",
      examples: {},
      exits: { 0: "nothing wrong was found", 1: "else", 2: "error" },
      notes: "",
    }, Deno.args);
    if (isText(command)) {
      console.log(await command);
      return Deno.exit(0);
    }
    const [extra] = command.positionals;
    if (extra === undefined) return command.given as Given<Flags> as Given<F>;
    throw new UsageError(`Unexpected argument '${extra}'`);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${tool}: ${error.message} (see --help)`);
    return Deno.exit(2);
  }
}
