"""ROUGE-1, -2, -L and -Lsum by the published definition of rouge_score (no stemming), for the tests of bench.

An implementation of its own: common subsequences by memoised recursion, n-grams by Counter intersection.
Reads a JSON list of [candidate, reference] from standard input and writes a list of scores.
    python3 rouge_reference.py < pairs.json
"""
import json
import re
import sys
from collections import Counter
from functools import lru_cache

sys.setrecursionlimit(100000)


def words(text):
    return [word for word in re.sub(r"[^a-z0-9]+", " ", text.lower()).split() if word]


def score(hits, candidate, reference):
    precision = hits / candidate if candidate else 0.0
    recall = hits / reference if reference else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / total if total else 0.0}


def grams(tokens, n):
    return Counter(zip(*(tokens[start:] for start in range(n))))


def rouge_n(candidate, reference, n):
    ours, theirs = grams(candidate, n), grams(reference, n)
    return score(sum((ours & theirs).values()), sum(ours.values()), sum(theirs.values()))


def common(reference, candidate):
    """Indices into the reference of a longest common subsequence, chosen from the end as rouge_score does."""

    @lru_cache(maxsize=None)
    def length(i, j):
        if i == 0 or j == 0:
            return 0
        if reference[i - 1] == candidate[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    found, i, j = [], len(reference), len(candidate)
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif length(i, j - 1) > length(i - 1, j):
            j -= 1
        else:
            i -= 1
    return found[::-1]


def rouge_l_sum(candidate, reference):
    ours = [words(line) for line in candidate.split("\n") if line]
    theirs = [words(line) for line in reference.split("\n") if line]
    left, right = Counter(sum(ours, [])), Counter(sum(theirs, []))
    sizes = sum(left.values()), sum(right.values())
    hits = 0
    for line in theirs:
        union = sorted(set(index for other in ours for index in common(line, other)))
        for word in (line[index] for index in union):
            if left[word] > 0 and right[word] > 0:
                left[word] -= 1
                right[word] -= 1
                hits += 1
    return score(hits, *sizes)


def rouge(candidate, reference):
    ours, theirs = words(candidate), words(reference)
    return {
        "rouge1": rouge_n(ours, theirs, 1),
        "rouge2": rouge_n(ours, theirs, 2),
        "rougeL": score(len(common(theirs, ours)), len(ours), len(theirs)),
        "rougeLsum": rouge_l_sum(candidate, reference),
    }


if __name__ == "__main__":
    json.dump([rouge(*pair) for pair in json.load(sys.stdin)], sys.stdout)
