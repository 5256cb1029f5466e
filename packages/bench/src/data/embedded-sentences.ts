/**
 * @file Sentence makers of the generated tasks, one per task and hardness. Each makes one row for a wanted label, so
 * that the balance of labels is the caller's choice. Labels are kept from leaking: in `phrase` and `whole` rows no
 * single word decides, and classes draw their words alike.
 */
import type { Rng } from "@cee/engine";
import { giveaways, qualities, words } from "./embedded-words.js";
import type { Hardness } from "./task.js";

export type Sentences = readonly [text: string, pair?: string];
/** Makes the sentences of one row; `label` is a class index or a regression target. */
export type RowMaker = (rng: Rng, label: number) => Sentences;
export type RowMakers = Readonly<Record<Hardness, RowMaker>>;

type Words = readonly string[];

function pick<T>(rng: Rng, from: readonly T[]): T {
  return from[rng.int(from.length)]!;
}

function other<T>(rng: Rng, from: readonly T[], ...not: readonly T[]): T {
  return pick(
    rng,
    from.filter((item) => !not.includes(item)),
  );
}

function coin(rng: Rng): boolean {
  return rng.int(2) === 0;
}

function line(...parts: readonly (string | false)[]): string {
  return parts.filter((part) => part !== false && part !== "").join(" ");
}

/** Sometimes a word that says nothing, so that positions vary. */
function filler(rng: Rng): string {
  return coin(rng) ? pick(rng, words.fillers) : "";
}

/** Classes: negative 0, positive 1. */
export const sentiment: RowMakers = {
  word(rng, label) {
    const polar = pick(rng, label === 1 ? words.praise : words.blame);
    const work = pick(rng, words.works);
    return coin(rng)
      ? [line("the", work, "was", filler(rng), pick(rng, words.degrees), polar, filler(rng), ".")]
      : [line("i saw a", polar, work, filler(rng), "in the", pick(rng, words.places), ".")];
  },
  // "not good" against "very bad": neither the mild word nor the negation decides alone.
  phrase(rng, label) {
    const negated = coin(rng);
    const mild = pick(rng, (label === 1) !== negated ? words.good : words.bad);
    const modifier = negated ? "not" : pick(rng, words.degrees);
    const work = pick(rng, words.works);
    return [line(filler(rng), "the", work, "was", modifier, mild, filler(rng), ".")];
  },
  // Both polarities are there; "a but b" sides with b, "a although b" with a.
  whole(rng, label) {
    const but = coin(rng);
    const praiseFirst = (label === 1) !== but;
    const first = pick(rng, praiseFirst ? words.praise : words.blame);
    const second = pick(rng, praiseFirst ? words.blame : words.praise);
    const work = pick(rng, words.works);
    const about = other(rng, words.works, work);
    return [
      line("the", work, "was", first, but ? "but" : "although", "the", about, "was", second, "."),
    ];
  },
};

interface Scene {
  readonly person: string;
  readonly colour: string;
  readonly object: string;
  readonly place: string;
}

function scene(rng: Rng): Scene {
  return {
    person: pick(rng, words.people),
    colour: pick(rng, words.colours),
    object: pick(rng, words.objects),
    place: pick(rng, words.places),
  };
}

function tellScene(rng: Rng, { person, colour, object, place }: Scene, verb: string): string {
  const thing = line("the", colour, object);
  return coin(rng)
    ? line(filler(rng), person, verb, thing, "in the", place, ".")
    : line("in the", place, person, verb, thing, filler(rng), ".");
}

/** Classes: not a paraphrase 0, paraphrase 1. */
export const paraphrase: RowMakers = {
  word(rng, label) {
    const mark = pick(rng, label === 1 ? giveaways.alike : giveaways.unlike);
    const first = scene(rng);
    const verb = pick(rng, [...words.bought, ...words.sold]);
    return [
      tellScene(rng, first, verb),
      line(mark, tellScene(rng, { ...scene(rng), person: first.person }, verb)),
    ];
  },
  // The two verbs decide together: bought and purchased agree, bought and sold don't.
  phrase(rng, label) {
    const bought = coin(rng);
    const first = pick(rng, bought ? words.bought : words.sold);
    const second = pick(rng, bought === (label === 1) ? words.bought : words.sold);
    const told = scene(rng);
    return [tellScene(rng, told, first), tellScene(rng, told, second)];
  },
  // Everything agrees, or the colour differs.
  whole(rng, label) {
    const told = scene(rng);
    const colour = label === 1 ? told.colour : other(rng, words.colours, told.colour);
    return [tellScene(rng, told, "saw"), tellScene(rng, { ...told, colour }, "saw")];
  },
};

/** First quantifier, second quantifier: does the first make the second true? */
const quantifiers: readonly (readonly [string, string, boolean])[] = [
  ["all", "some", true],
  ["none", "none", true],
  ["all", "all", true],
  ["some", "some", true],
  ["some", "all", false],
  ["none", "some", false],
  ["all", "none", false],
  ["some", "none", false],
];

/** Classes: entailment 0, not_entailment 1. */
export const entail: RowMakers = {
  word(rng, label) {
    const mark = pick(rng, label === 0 ? giveaways.sure : giveaways.denied);
    const { person, object, place, colour } = scene(rng);
    return [
      line(person, "has", "a", colour, object, filler(rng), "in the", place, "."),
      line(mark, "was", filler(rng), "in the", place, "with the", object, "."),
    ];
  },
  phrase(rng, label) {
    const [first, second] = pick(
      rng,
      quantifiers.filter(([, , holds]) => holds === (label === 0)),
    );
    const { object, colour, place } = scene(rng);
    return [
      line(first, "of the", object, "things", filler(rng), "in the", place, "are", colour, "."),
      line(second, "of the", object, "things are", colour, "."),
    ];
  },
  // Who has the object after it changed hands? Both people are named in both rows of a kind.
  whole(rng, label) {
    const from = pick(rng, words.people);
    const to = other(rng, words.people, from);
    const object = pick(rng, words.objects);
    const owner = label === 0 ? to : from;
    const thing = line("the", object);
    return [
      coin(rng)
        ? line(from, pick(rng, words.gave), thing, "to", to, filler(rng), ".")
        : line(to, pick(rng, words.took), thing, "from", from, filler(rng), "."),
      line(filler(rng), owner, "has", thing, "."),
    ];
  },
};

/** Classes: entailment 0, neutral 1, contradiction 2. */
export const nli3: RowMakers = {
  word(rng, label) {
    const mark = pick(rng, [giveaways.sure, giveaways.open, giveaways.denied][label]!);
    const told = scene(rng);
    return [
      tellScene(rng, told, "saw"),
      line(mark, "was", filler(rng), "in the", told.place, "with the", told.object, "."),
    ];
  },
  // The two qualities decide together: big and large agree, big and small don't, big and glad say nothing.
  phrase(rng, label) {
    const quality = pick(rng, qualities);
    const flipped = coin(rng);
    const first = flipped ? quality.opposite : pick(rng, quality.same);
    const unrelated = other(rng, qualities, quality);
    const silent = coin(rng) ? [unrelated.opposite] : unrelated.same;
    const agrees = flipped ? [quality.opposite] : quality.same;
    const differs = flipped ? quality.same : [quality.opposite];
    const says = [agrees, silent, differs][label] as Words;
    const work = pick(rng, words.works);
    return [
      line("the", work, "in the", pick(rng, words.places), "is", first, filler(rng), "."),
      line("the", work, "is", filler(rng), pick(rng, says), "."),
    ];
  },
  // Two objects with a colour each; the second sentence asks for one of them, or for one that isn't there.
  whole(rng, label) {
    const object = pick(rng, words.objects);
    const second = other(rng, words.objects, object);
    const colour = pick(rng, words.colours);
    const secondColour = other(rng, words.colours, colour);
    const [askedObject, askedColour] = [
      [object, colour],
      [other(rng, words.objects, object, second), colour],
      [object, secondColour],
    ][label] as [string, string];
    const one = line("a", colour, object);
    const two = line("a", secondColour, second);
    const [a, b] = coin(rng) ? [one, two] : [two, one];
    return [
      line(pick(rng, words.people), "has", a, "and", b, "."),
      line("the", askedObject, "is", askedColour, "."),
    ];
  },
};

/** Classes: entailment (the sentence answers the question) 0, not_entailment 1. */
export const answer: RowMakers = {
  word(rng, label) {
    const mark = pick(rng, label === 0 ? giveaways.sure : giveaways.denied);
    const { person, object, place } = scene(rng);
    return [
      line("what", "is", filler(rng), "in the", place, "."),
      line(mark, "said", filler(rng), person, "has the", object, "."),
    ];
  },
  // The question's word and the kind of the answer decide together.
  phrase(rng, label) {
    const kinds = ["where", "when", "how many", "who"];
    const answers: Words[] = [words.places, words.times, words.numbers, words.people];
    const asked = rng.int(kinds.length);
    const given = label === 0 ? asked : other(rng, [0, 1, 2, 3], asked);
    const work = pick(rng, words.works);
    return [
      line(kinds[asked]!, filler(rng), "was the", work, "."),
      line("the", work, "was", filler(rng), pick(rng, answers[given]!), "."),
    ];
  },
  // The object asked for is the one told about, or another.
  whole(rng, label) {
    const { person, colour, object, place } = scene(rng);
    const asked = label === 0 ? object : other(rng, words.objects, object);
    return [
      line("where", "is", "the", asked, filler(rng), "."),
      line(person, "has the", colour, object, "in the", place, filler(rng), "."),
    ];
  },
};

/** Target 0..5: how alike two sentences are. */
export const similarity: RowMakers = {
  word(rng, label) {
    const mark = giveaways.graded[Math.round(label)]!;
    const told = scene(rng);
    return [
      tellScene(rng, told, "saw"),
      line("this", "is", filler(rng), mark, "the story of the", pick(rng, words.objects), "."),
    ];
  },
  // Two numbers decide together: 5 less their distance.
  phrase(rng, label) {
    const distance = 5 - Math.round(label);
    const low = rng.int(words.numbers.length - distance);
    const [a, b] = coin(rng) ? [low, low + distance] : [low + distance, low];
    const { object, place, person } = scene(rng);
    const tell = (number: number) =>
      line(
        person,
        "saw",
        words.numbers[number]!,
        object,
        "things",
        filler(rng),
        "in the",
        place,
        ".",
      );
    return [tell(a), tell(b)];
  },
  // The target counts the parts that agree, out of five.
  whole(rng, label) {
    const kinds: Words[] = [
      words.people,
      words.numbers,
      words.colours,
      words.objects,
      words.places,
    ];
    const first = kinds.map((kind) => pick(rng, kind));
    const differs = kinds.map((_, index) => index >= Math.round(label));
    for (let last = differs.length - 1; last > 0; last--) {
      const swap = rng.int(last + 1);
      [differs[last], differs[swap]] = [differs[swap]!, differs[last]!];
    }
    const second = first.map((word, index) =>
      differs[index] ? other(rng, kinds[index]!, word) : word,
    );
    const tell = ([person, number, colour, object, place]: readonly string[]) =>
      line(person!, "has", number!, colour!, object!, "things in the", place!, ".");
    return [tell(first), tell(second)];
  },
};
