#!/usr/bin/env python3
"""Golden numbers for the BERT encoder: an independent forward pass in plain PyTorch operations.

Writes test/golden/bert.json with random weights, inputs, the hidden states of every layer, the pooled [CLS] of every
layer and the logits of a classifier on each. Run from anywhere: python3 golden_bert.py
"""

import json
import math
import pathlib
import platform

import torch

DEPTH, HIDDEN, HEADS, INTERMEDIATE = 3, 16, 2, 24
VOCAB, POSITIONS, TYPES, CLASSES = 40, 12, 2, 3
EPS = 1e-12
SEED = 20240607


def make_weights(generator):
    """Names as in a TensorFlow-era checkpoint: LayerNorm has gamma and beta."""

    def rand(*shape, scale=0.3):
        # Rounded, so that the JSON text is short and holds the exact numbers.
        return (torch.randn(*shape, generator=generator) * scale).round(decimals=3)

    weights = {}

    def dense(name, inputs, outputs):
        weights[f"{name}.weight"] = rand(outputs, inputs)
        weights[f"{name}.bias"] = rand(outputs)

    def norm(name):
        weights[f"{name}.gamma"] = (1 + rand(HIDDEN)).round(decimals=3)
        weights[f"{name}.beta"] = rand(HIDDEN)

    weights["bert.embeddings.word_embeddings.weight"] = rand(VOCAB, HIDDEN, scale=1.0)
    weights["bert.embeddings.position_embeddings.weight"] = rand(POSITIONS, HIDDEN)
    weights["bert.embeddings.token_type_embeddings.weight"] = rand(TYPES, HIDDEN)
    norm("bert.embeddings.LayerNorm")
    for index in range(DEPTH):
        layer = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", HIDDEN, INTERMEDIATE)
        dense(f"{layer}.output.dense", INTERMEDIATE, HIDDEN)
        norm(f"{layer}.output.LayerNorm")
    dense("bert.pooler.dense", HIDDEN, HIDDEN)
    dense("classifier", HIDDEN, CLASSES)
    # What a pre-training checkpoint also holds and an encoder has no use for.
    dense("cls.seq_relationship", HIDDEN, 2)
    return weights


def forward(weights, ids, types, mask):
    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + EPS) * weights[f"{name}.gamma"] + weights[f"{name}.beta"]

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    rows, length = ids.shape
    size = HIDDEN // HEADS
    x = (
        weights["bert.embeddings.word_embeddings.weight"][ids]
        + weights["bert.embeddings.position_embeddings.weight"][torch.arange(length)]
        + weights["bert.embeddings.token_type_embeddings.weight"][types]
    )
    x = norm("bert.embeddings.LayerNorm", x)
    states = [x]
    for index in range(DEPTH):
        layer = f"bert.encoder.layer.{index}"
        heads = []
        query, key, value = (dense(f"{layer}.attention.self.{part}", x) for part in ("query", "key", "value"))
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(size)
            scores = scores.masked_fill(mask[:, None, :] == 0, -math.inf)
            heads.append(torch.softmax(scores, -1) @ value[..., part])
        attended = norm(
            f"{layer}.attention.output.LayerNorm",
            dense(f"{layer}.attention.output.dense", torch.cat(heads, -1)) + x,
        )
        inner = gelu(dense(f"{layer}.intermediate.dense", attended))
        x = norm(f"{layer}.output.LayerNorm", dense(f"{layer}.output.dense", inner) + attended)
        states.append(x)
    pooled = [torch.tanh(dense("bert.pooler.dense", state[:, 0])) for state in states[1:]]
    logits = [dense("classifier", vector) for vector in pooled]
    return states, pooled, logits


def batch(generator, lengths, pairs):
    """Rows of the given lengths, padded to the longest; `pairs` holds where the second text starts."""
    length = max(lengths)
    ids = torch.zeros(len(lengths), length, dtype=torch.long)
    types = torch.zeros_like(ids)
    mask = torch.zeros_like(ids)
    for row, (count, start) in enumerate(zip(lengths, pairs)):
        ids[row, :count] = torch.randint(5, VOCAB, (count,), generator=generator)
        ids[row, 0] = 2
        types[row, start:count] = 1
        mask[row, :count] = 1
    return ids, types, mask


def flat(tensor):
    digits = 8 if tensor.is_floating_point() else None
    return [float(f"{v:.{digits}g}") if digits else v for v in tensor.flatten().tolist()]


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    weights = make_weights(generator)
    cases = []
    for name, lengths, pairs in (
        ("two rows, one padded, one a pair", [7, 4], [4, 4]),
        ("three rows up to the last position", [12, 1, 9], [6, 1, 3]),
    ):
        ids, types, mask = batch(generator, lengths, pairs)
        states, pooled, logits = forward(weights, ids, types, mask)
        cases.append(
            {
                "name": name,
                "rows": len(lengths),
                "length": max(lengths),
                "ids": flat(ids),
                "types": flat(types),
                "mask": flat(mask),
                "hidden": [flat(state) for state in states],
                "pooled": [flat(vector) for vector in pooled],
                "logits": [flat(vector) for vector in logits],
            }
        )
    golden = {
        "provenance": {
            "script": "packages/backbone/scripts/golden_bert.py",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": SEED,
        },
        "config": {
            "model_type": "bert",
            "vocab_size": VOCAB,
            "hidden_size": HIDDEN,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": TYPES,
            "layer_norm_eps": EPS,
            "hidden_act": "gelu",
            "id2label": {str(index): f"LABEL_{index}" for index in range(CLASSES)},
        },
        "weights": {name: {"shape": list(value.shape), "data": flat(value)} for name, value in weights.items()},
        "cases": cases,
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "test" / "golden" / "bert.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
