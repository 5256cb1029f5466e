/**
 * @file Generated instructions with responses, and generated news with highlights: small languages that a small decoder
 * can learn in a minute, with words that need thought beside words that go without saying.
 */
import { createRng, type Rng } from "@cee/engine";

/** A task as instruction files have it. */
export interface InstructionRow {
  readonly id: string;
  readonly instruction: string;
  /** May be empty. */
  readonly input: string;
  readonly response: string;
}

const animals = ["cat", "dog", "fox", "owl", "hen", "bee", "cow", "pig", "elk", "ant"];
const fruits = ["apple", "pear", "plum", "grape", "lemon", "peach", "melon", "cherry"];
const tools = ["hammer", "saw", "rope", "brush", "spade", "ladder", "needle", "bucket"];
const opposites = [
  ["hot", "cold"],
  ["big", "small"],
  ["fast", "slow"],
  ["old", "young"],
  ["wet", "dry"],
  ["hard", "soft"],
  ["dark", "light"],
  ["early", "late"],
] as const;
const numbers = "one two three four five six seven eight nine ten eleven twelve".split(" ");
const names = ["anna", "ben", "clara", "david", "emma", "felix", "greta", "hugo"];
const places = ["harbour", "market", "station", "library", "forest", "museum", "castle", "school"];
const finds = ["coin", "letter", "map", "painting", "ring", "statue", "key", "drum"];
const weathers = ["sunny", "rainy", "windy", "foggy", "cold", "warm"];
const days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const fillers = [
  "many people were in the streets .",
  "the shops opened late .",
  "nobody knew what to expect .",
  "a band played until the evening .",
  "the mayor gave a short speech .",
  "children sold lemonade at the corner .",
];

const pick = <T>(rng: Rng, items: readonly T[]): T => items[rng.int(items.length)] as T;
const some = (rng: Rng, items: readonly string[], count: number): string[] =>
  rng.shuffle([...items]).slice(0, count);

type Maker = (rng: Rng) => Omit<InstructionRow, "id">;

const makers: readonly Maker[] = [
  (rng) => {
    const words = some(rng, [...animals, ...fruits, ...tools], 2 + rng.int(3));
    return {
      instruction: "repeat the words .",
      input: words.join(" "),
      response: `the words are ${words.join(" ")} .`,
    };
  },
  (rng) => {
    const [word, other] = rng.shuffle([...pick(rng, opposites)]) as [string, string];
    return {
      instruction: `what is the opposite of ${word} ?`,
      input: "",
      response: `the opposite of ${word} is ${other} .`,
    };
  },
  (rng) => {
    const words = some(rng, [...animals, ...fruits, ...tools], 3);
    return {
      instruction: "say the words backwards .",
      input: words.join(" "),
      response: `backwards the words are ${[...words].reverse().join(" ")} .`,
    };
  },
  (rng) => {
    const [a, b] = [1 + rng.int(6), 1 + rng.int(6)];
    return {
      instruction: `what is ${numbers[a - 1]} plus ${numbers[b - 1]} ?`,
      input: "",
      response: `the sum of ${numbers[a - 1]} and ${numbers[b - 1]} is ${numbers[a + b - 1]} .`,
    };
  },
  (rng) => {
    const from = rng.int(numbers.length - 3);
    const shown = numbers.slice(from, from + 3);
    return {
      instruction: "continue the list .",
      input: shown.join(" "),
      response: `after ${shown.at(-1)} comes ${numbers[from + 3]} .`,
    };
  },
  (rng) => {
    const kinds = { animal: animals, fruit: fruits, tool: tools } as const;
    const kind = pick(rng, Object.keys(kinds) as (keyof typeof kinds)[]);
    const others = Object.entries(kinds).flatMap(([name, words]) => (name === kind ? [] : words));
    const wanted = pick(rng, kinds[kind]);
    const words = rng.shuffle([wanted, ...some(rng, others, 2)]);
    return {
      instruction: `which word is the name of a kind of ${kind} ?`,
      input: words.join(" "),
      response: `the ${kind} among the words is the ${wanted} .`,
    };
  },
];

/** Instructions of six kinds; the same rows for the same seed. */
export function generateInstructions(count: number, seed: number | string): InstructionRow[] {
  const root = createRng(seed).fork("instructions");
  return Array.from({ length: count }, (_, index) => {
    const rng = root.fork(`${index}`);
    return { id: `instruction-${index}`, ...(makers[index % makers.length] as Maker)(rng) };
  });
}

/** The question that every article comes with. */
export const HIGHLIGHTS = "write the highlights of the article .";

/** Short news of which two sentences matter. */
export function generateArticles(count: number, seed: number | string): InstructionRow[] {
  const root = createRng(seed).fork("articles");
  return Array.from({ length: count }, (_, index) => {
    const rng = root.fork(`${index}`);
    const [name, other] = some(rng, names, 2) as [string, string];
    const [place, elsewhere] = some(rng, places, 2) as [string, string];
    const [find, day] = [pick(rng, finds), pick(rng, days)];
    const said = some(rng, fillers, 2);
    // Who found something decides which of the two places counts.
    const walks = rng.shuffle([
      `${name} walked to the ${place} .`,
      `${other} walked to the ${elsewhere} .`,
    ]);
    const article = [
      `it was a ${pick(rng, weathers)} ${day} in town .`,
      walks[0],
      said[0],
      walks[1],
      said[1],
      `there ${name} found an old ${find} .`,
    ].join(" ");
    return {
      id: `article-${index}`,
      instruction: HIGHLIGHTS,
      input: article,
      response: `${name} found an old ${find} at the ${place} .\nit happened on a ${day} .`,
    };
  });
}
