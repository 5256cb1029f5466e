/** @file Settings of a script as `name=value` words; what is no setting of it is refused before any work begins. */

/** The words of a command line as settings. */
export function readSettings<const Name extends string>(names: readonly Name[]) {
  const given = new Map(
    process.argv.slice(2).map((word) => {
      const at = word.indexOf("=");
      return at < 0 ? ([word, ""] as const) : ([word.slice(0, at), word.slice(at + 1)] as const);
    }),
  );
  const known: readonly string[] = names;
  for (const [name, value] of given)
    if (!known.includes(name) || value === "")
      refuse(`"${name}" is not a setting with a value. Give ${names.join("=, ")}=`);
  const numbers = (name: Name, otherwise: number): number[] => {
    const words = given.get(name)?.split(",") ?? [];
    if (words.some((word) => word === "" || !Number.isFinite(Number(word))))
      refuse(`${name} takes numbers, got "${given.get(name)}"`);
    return words.length > 0 ? words.map(Number) : [otherwise];
  };
  return {
    text: (name: Name): string | undefined => given.get(name),
    numbers,
    number(name: Name, otherwise: number): number {
      const [value, ...more] = numbers(name, otherwise);
      if (more.length > 0) refuse(`${name} takes one number, got "${given.get(name)}"`);
      return value as number;
    },
  };
}

function refuse(problem: string): never {
  console.error(problem);
  process.exit(2);
}
