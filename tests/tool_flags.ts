/** The command lines of the tools in this folder. */
// deno-lint-ignore-file no-console -- a part of programs
import {
  COMMON_FLAGS,
  type Flags,
  type Given,
  group,
  parseCommand,
  UsageError,
} from "../lib/cli/flags.ts";

/**
 * Reads the flags of `deno task` TOOL, or prints `--help`, or one line about a
 * mistake, and ends the program.
 */
export function toolFlags<const F extends Flags>(
  tool: string,
  about: string,
  flags: F,
): Given<F> {
  const shown = group({ group: "Flags", everyday: true }, flags as Flags);
  try {
    const command = parseCommand({
      flags: { ...shown, ...COMMON_FLAGS },
      modes: { run: `deno task ${tool}` },
      intro: `${about}\nUsage: deno task ${tool} [flags]`,
      notes: "",
    }, Deno.args);
    if (typeof command === "string") {
      console.log(command);
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
