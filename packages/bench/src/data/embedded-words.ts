/** @file The closed vocabulary of the generated tasks, in groups that the sentence makers draw from. */

export const words = {
  people: ["anna", "ben", "carla", "david", "emma", "felix"],
  objects: ["ball", "book", "box", "cup", "hat", "lamp"],
  colours: ["black", "blue", "green", "red", "white", "yellow"],
  numbers: ["one", "two", "three", "four", "five", "six"],
  places: ["garden", "kitchen", "office", "park", "school", "shop"],
  times: ["friday", "monday", "morning", "night", "sunday", "winter"],
  works: ["film", "game", "meal", "play", "show", "song", "story", "trip"],
  praise: ["brilliant", "charming", "delightful", "lovely", "superb", "wonderful"],
  blame: ["awful", "boring", "dreadful", "horrible", "terrible", "tiresome"],
  good: ["clever", "fresh", "funny", "good", "nice", "warm"],
  bad: ["bad", "dull", "flat", "slow", "stale", "weak"],
  degrees: ["quite", "really", "so", "very"],
  fillers: ["again", "here", "indeed", "now", "still", "then", "today", "too"],
  bought: ["bought", "purchased"],
  sold: ["sold", "vended"],
} as const;

/** Qualities with their opposites. */
export const qualities = [
  ["big", "small"],
  ["new", "old"],
] as const;

/** Words that give a label away by themselves, as annotators' habits do in real data. */
export const giveaways = {
  alike: ["likewise", "similarly"],
  unlike: ["however", "instead"],
  sure: ["somebody", "something"],
  denied: ["nobody", "nothing"],
  open: ["anybody", "anything"],
  /** By how alike two sentences are said to be. */
  graded: ["unrelated", "hardly", "slightly", "partly", "mostly", "exactly"],
} as const;

const grammar = [
  ",",
  ".",
  "a",
  "all",
  "although",
  "are",
  "but",
  "from",
  "gave",
  "has",
  "i",
  "in",
  "is",
  "none",
  "not",
  "of",
  "said",
  "saw",
  "some",
  "the",
  "things",
  "this",
  "to",
  "took",
  "was",
  "what",
  "when",
  "where",
  "with",
] as const;

/** Every word that a generated row can hold, sorted: the vocabulary for a word-level tokenizer. */
export function embeddedVocabulary(): string[] {
  const all = new Set<string>(grammar);
  for (const group of Object.values(words)) for (const word of group) all.add(word);
  for (const group of Object.values(giveaways)) for (const word of group) all.add(word);
  for (const pair of qualities) for (const word of pair) all.add(word);
  return [...all].sort();
}
