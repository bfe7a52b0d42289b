/**
 * Completions of a program's flags for shells, from the table of its flags. They
 * are for its installed name, such as `roundtrip-client`. Pure.
 *
 * @module
 */
import { type Described, type Flag, helpOf } from "./usage.ts";

/** A flag for a shell: its spellings, and the values that it can complete. */
interface Completed {
  flag: Flag;
  spellings: string[];
  choices: readonly string[];
  /** Whether a value follows, or may follow `--help`. */
  hasValue: boolean;
  source: "FILE" | "HOST" | undefined;
}

type Script = (command: string, flags: Completed[], hosts: boolean) => string;

/** Makes the script that a shell sources, or loads from its folder. */
export function completions(
  { name, flags, synopsis }: Described,
  shell: "bash" | "zsh" | "fish",
): string {
  const all = Object.entries<Flag>(flags).map(([name, flag]): Completed => {
    const { short, kind } = flag;
    const choices = name === "help" ? ["all", "man"] : kind?.choices ?? [];
    return {
      flag,
      spellings: [...short === undefined ? [] : [`-${short}`], `--${name}`],
      choices,
      hasValue: kind !== undefined || choices.length > 0,
      source: (["FILE", "HOST"] as const)
        .find((source) => kind?.value.startsWith(source)),
    };
  });
  return SCRIPTS[shell](`roundtrip-${name}`, all, synopsis.includes("HOST"));
}

const HOSTS = 'COMPREPLY=($(compgen -A hostname -- "$cur"))';

const bash: Script = (command, flags, hasHosts) => {
  const words = (list: readonly string[]) =>
    `COMPREPLY=($(compgen -W '${list.join(" ")}' -- "$cur"))`;
  const sources = {
    FILE: "local IFS=$'\\n'\n      compopt -o filenames 2>/dev/null\n" +
      '      COMPREPLY=($(compgen -f -- "$cur"))',
    HOST: HOSTS,
  };
  const cases = Map.groupBy(
    flags.filter(({ hasValue }) => hasValue),
    ({ choices, source }) =>
      source !== undefined
        ? sources[source]
        : choices.length > 0
        ? words(choices)
        : ":",
  );
  const branches = [...cases].map(([action, flags]) => {
    const pattern = flags.flatMap(({ spellings }) => spellings).join("|");
    return `    ${pattern})\n      ${action}\n      return ;;`;
  });
  const all = words(flags.flatMap(({ spellings }) => spellings));
  // Bash has the = of --flag=value as a word of its own.
  return `_${command}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  [[ $prev == = ]] && prev=\${COMP_WORDS[COMP_CWORD-2]}
  [[ $cur == = ]] && cur=
  COMPREPLY=()
  case $prev in
${branches.join("\n")}
  esac
  if [[ $cur == -* ]]; then
    ${all}
  ${hasHosts ? `else\n    ${HOSTS}\n  ` : ""}fi
}
complete -F _${command} ${command}`;
};

const zsh: Script = (command, flags, hasHosts) => {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = (text: string) => text.replaceAll(/[[\]:\\]/g, "\\$&");
  const sources = { FILE: "_files", HOST: "_hosts" };
  const specs = flags.flatMap(
    ({ flag, spellings, choices, hasValue, source }) => {
      const known = choices.length > 0 ? `(${choices.join(" ")})` : " ";
      const action = source === undefined ? known : sources[source];
      const value = flag.kind?.value;
      // The value of --help is an argument behind it, and may be left out.
      const suffix = !hasValue
        ? ""
        : `:${value === undefined ? ":" : ""}${
          escaped(value ?? "TOPIC")
        }:${action}`;
      const excluded = [...spellings, ...(flag.excludes ?? []).map(spelled)];
      return spellings.map((spelling) => {
        const sign = spelling.startsWith("--") ? "=" : "+";
        const head = spelling + (flag.kind ? sign : "");
        const help = escaped(helpOf(flag));
        return quoted(`(${excluded.join(" ")})${head}[${help}]${suffix}`);
      });
    },
  );
  const all = [...specs, ...hasHosts ? ["'*:HOST:_hosts'"] : []];
  return `#compdef ${command}
_${command}() {
  _arguments -s -S \\
    ${all.join(" \\\n    ")}
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _${command} "$@"
else
  compdef _${command} ${command}
fi`;
};

const fish: Script = (command, flags, hasHosts) => {
  const quoted = (text: string) => `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
  const hosts = quoted("(__fish_print_hostnames)");
  const lines = flags.map(({ flag, spellings, choices, source }) => {
    const names = spellings
      .map((name) => name.replace(/^--/, "-l ").replace(/^-(?=\w$)/, "-s "));
    const values = choices.length > 0
      ? ` -a ${quoted(choices.join(" "))}`
      : source === "HOST"
      ? ` -a ${hosts}`
      : "";
    const need = flag.kind ? source === "FILE" ? " -r -F" : " -x" : "";
    return `complete -c ${command} ${names.join(" ")}${need}${values} -d ${
      quoted(helpOf(flag))
    }`;
  });
  const args = hasHosts ? ` -a ${hosts}` : "";
  return [`complete -c ${command} -f${args}`, ...lines].join("\n");
};

const SCRIPTS = { bash, zsh, fish };
const spelled = (name: string) => `--${name}`;
