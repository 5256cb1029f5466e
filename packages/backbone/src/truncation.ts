/** @file How a pair of texts shares too little room. */

/**
 * How many tokens of each text stay: the longer one is cut first; what two long texts share is halved, and an odd token
 * goes to the longer text (to the second where both are equal), as in Hugging Face's fast tokenizers.
 */
export function truncateLongestFirst(
  first: number,
  second: number,
  room: number,
): readonly [number, number] {
  if (first + second <= room) return [first, second];
  const half = Math.floor(room / 2);
  if (first > second) {
    const shorter = Math.min(second, half);
    return [room - shorter, shorter];
  }
  const shorter = Math.min(first, half);
  return [shorter, room - shorter];
}
