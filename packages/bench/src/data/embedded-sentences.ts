/**
 * @file Sentence makers of the generated tasks, one per task and hardness. Each makes one row for a wanted label, so
 * that the balance of labels is the caller's choice. In `phrase` and `whole` rows no single word decides, but some
 * lean: parts are drawn unevenly, as in real text. Without any lean the label would be a parity of the parts, which
 * gradient descent on a thousand rows does not find.
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

/** Draws the first item three times in four. */
function lean<T>(rng: Rng, from: readonly T[]): T {
  return rng.int(4) < 3 ? from[0]! : other(rng, from, from[0]!);
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

/** Few values for the parts that a pair is compared by: a fresh encoder must see every combination often. */
const few = {
  people: words.people.slice(0, 3),
  objects: words.objects.slice(0, 3),
  colours: words.colours.slice(0, 3),
  numbers: words.numbers.slice(0, 3),
  places: words.places.slice(0, 3),
  times: words.times.slice(0, 3),
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

/** A scene to compare with another one. */
function comparedScene(rng: Rng): Scene {
  return {
    person: pick(rng, few.people),
    colour: lean(rng, few.colours),
    object: lean(rng, few.objects),
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
  // The two verbs decide together: bought and bought agree, bought and sold don't.
  phrase(rng, label) {
    const bought = lean(rng, [true, false]);
    const first = bought ? "bought" : "sold";
    const second = bought === (label === 1) ? "bought" : "sold";
    const { person, colour, object } = scene(rng);
    const thing = line("the", colour, object);
    return [
      line(person, first, thing, pick(rng, words.fillers), "."),
      line(person, second, thing, pick(rng, words.fillers), "."),
    ];
  },
  // Everything agrees, or the colour or the object differs.
  whole(rng, label) {
    const { person, colour, object, place } = comparedScene(rng);
    const isColour = coin(rng);
    const differs = label === 0;
    const second = {
      colour: differs && isColour ? other(rng, few.colours, colour) : colour,
      object: differs && !isColour ? other(rng, few.objects, object) : object,
    };
    return [
      line(person, "saw the", colour, object, "in the", place, "."),
      line(person, "saw the", second.colour, second.object, pick(rng, words.fillers), "."),
    ];
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
  // Who has the object after it changed hands? Both people are named in rows of either class.
  whole(rng, label) {
    const from = lean(rng, few.people);
    const to = other(rng, few.people, from);
    const thing = line("the", pick(rng, words.objects));
    const owner = label === 0 ? to : from;
    return [
      coin(rng)
        ? line(from, "gave", thing, "to", to, pick(rng, words.fillers), ".")
        : line(to, "took", thing, "from", from, pick(rng, words.fillers), "."),
      line(owner, "has", thing, pick(rng, words.fillers), "."),
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
  // The two qualities decide together: big and big agree, big and small don't, big and new say nothing.
  phrase(rng, label) {
    const at = rng.int(qualities.length);
    const side = lean(rng, [0, 1]);
    const unrelated = qualities[1 - at]![rng.int(2)]!;
    const says = [qualities[at]![side]!, unrelated, qualities[at]![1 - side]!][label]!;
    const thing = line("the", pick(rng, words.objects));
    return [
      line(thing, "is", qualities[at]![side]!, pick(rng, words.fillers), "."),
      line(thing, "is", says, pick(rng, words.fillers), "."),
    ];
  },
  // Same object and colour, another object, or the same object in another colour.
  whole(rng, label) {
    const { person, colour, object } = comparedScene(rng);
    const second = [
      line("the", object, "is", colour),
      line("the", other(rng, few.objects, object), "is", pick(rng, few.colours)),
      line("the", object, "is", other(rng, few.colours, colour)),
    ][label]!;
    return [
      line(person, "has the", colour, object, pick(rng, words.fillers), "."),
      line(second, pick(rng, words.fillers), "."),
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
    const where = lean(rng, [true, false]);
    const given = where === (label === 0) ? few.places : few.times;
    const work = pick(rng, words.works);
    return [
      line(where ? "where" : "when", "was the", work, pick(rng, words.fillers), "."),
      line("the", pick(rng, given), "was", "with the", work, filler(rng), "."),
    ];
  },
  // The colour and the object asked for are the ones told about, or one of them isn't.
  whole(rng, label) {
    const { person, colour, object, place } = comparedScene(rng);
    const isColour = coin(rng);
    const differs = label === 1;
    const asked = line(
      differs && isColour ? other(rng, few.colours, colour) : colour,
      differs && !isColour ? other(rng, few.objects, object) : object,
    );
    return [
      line("where is the", asked, pick(rng, words.fillers), "."),
      line("the", colour, object, "is with", person, "in the", place, "."),
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
    const tell = (number: number, more: string) =>
      line(person, "saw", words.numbers[number]!, object, "things", more, "in the", place, ".");
    return [tell(a, filler(rng)), tell(b, filler(rng))];
  },
  // The target counts the parts that agree, out of five.
  whole(rng, label) {
    const kinds: Words[] = [few.people, few.numbers, few.colours, few.objects, few.places];
    const first = kinds.map((kind) => lean(rng, kind));
    const differs = rng.shuffle(kinds.map((_, index) => index >= Math.round(label)));
    const second = first.map((word, index) =>
      differs[index] ? other(rng, kinds[index]!, word) : word,
    );
    const tell = ([person, number, colour, object, place]: readonly string[]) =>
      line(person!, "has", number!, colour!, object!, "things in the", place!);
    return [
      line(tell(first), pick(rng, words.fillers), "."),
      line(tell(second), pick(rng, words.fillers), "."),
    ];
  },
};
