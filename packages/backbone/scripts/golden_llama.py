#!/usr/bin/env python3
"""Golden numbers for the LLaMA decoder: an independent forward pass in plain PyTorch operations, in double precision.

Writes test/golden/llama.json with random weights, inputs, and the logits and the last block's states for each case.
Rotary positions are complex multiplications, key heads are repeated, rows are run one at a time without padding.
Run from anywhere: python3 golden_llama.py
"""

import json
import pathlib
import platform

import torch

DEPTH, HIDDEN, HEADS, KV_HEADS, INTERMEDIATE = 2, 24, 4, 2, 20
VOCAB, POSITIONS = 30, 32
EPS, THETA = 1e-5, 10000.0
SEED = 20240608


def make_weights(generator):
    def rand(*shape, scale=0.3):
        # Rounded, so that the JSON text is short and holds the exact numbers.
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).round(decimals=3)

    size = HIDDEN // HEADS
    weights = {"model.embed_tokens.weight": rand(VOCAB, HIDDEN, scale=1.0)}
    for index in range(DEPTH):
        layer = f"model.layers.{index}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}.{norm}.weight"] = (1 + rand(HIDDEN)).round(decimals=3)
        weights[f"{layer}.self_attn.q_proj.weight"] = rand(HIDDEN, HIDDEN)
        weights[f"{layer}.self_attn.k_proj.weight"] = rand(KV_HEADS * size, HIDDEN)
        weights[f"{layer}.self_attn.v_proj.weight"] = rand(KV_HEADS * size, HIDDEN)
        weights[f"{layer}.self_attn.o_proj.weight"] = rand(HIDDEN, HIDDEN)
        weights[f"{layer}.mlp.gate_proj.weight"] = rand(INTERMEDIATE, HIDDEN)
        weights[f"{layer}.mlp.up_proj.weight"] = rand(INTERMEDIATE, HIDDEN)
        weights[f"{layer}.mlp.down_proj.weight"] = rand(HIDDEN, INTERMEDIATE)
    weights["model.norm.weight"] = (1 + rand(HIDDEN)).round(decimals=3)
    weights["lm_head.weight"] = rand(VOCAB, HIDDEN)
    return weights


def forward(weights, ids, tied):
    """One text, no batch: `ids` is [S]; gives the last block's states [S, H] and the logits [S, V]."""

    def rms(name, x):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * weights[f"{name}.weight"]

    size, half = HIDDEN // HEADS, HIDDEN // HEADS // 2
    steps = torch.arange(len(ids), dtype=torch.float64)
    angles = steps[:, None] / THETA ** (torch.arange(half, dtype=torch.float64) / half)
    turns = torch.polar(torch.ones_like(angles), angles)

    def rotate(x):  # [S, size]: number i and number i + half are one complex number
        turned = torch.complex(x[:, :half], x[:, half:]) * turns
        return torch.cat([turned.real, turned.imag], -1)

    x = weights["model.embed_tokens.weight"][ids]
    for index in range(DEPTH):
        layer = f"model.layers.{index}"
        y = rms(f"{layer}.input_layernorm", x)
        query, key, value = (y @ weights[f"{layer}.self_attn.{part}_proj.weight"].T for part in "qkv")
        heads = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            shared = head // (HEADS // KV_HEADS)
            theirs = slice(shared * size, (shared + 1) * size)
            scores = rotate(query[:, own]) @ rotate(key[:, theirs]).T / size**0.5
            later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
            heads.append(torch.softmax(scores.masked_fill(later, -torch.inf), -1) @ value[:, theirs])
        x = x + torch.cat(heads, -1) @ weights[f"{layer}.self_attn.o_proj.weight"].T
        y = rms(f"{layer}.post_attention_layernorm", x)
        gate, up = (y @ weights[f"{layer}.mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (torch.nn.functional.silu(gate) * up) @ weights[f"{layer}.mlp.down_proj.weight"].T
    table = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    return x, rms("model.norm", x) @ table.T


def flat(tensor):
    if not tensor.is_floating_point():
        return tensor.flatten().tolist()
    return [float(f"{v:.7g}") for v in tensor.flatten().tolist()]


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    weights = make_weights(generator)
    cases = []
    for name, lengths, tied in (
        ("two texts, own output projection", [9, 5], False),
        ("one text, tied output projection", [12], True),
    ):
        texts = [torch.randint(0, VOCAB, (length,), generator=generator) for length in lengths]
        results = [forward(weights, ids, tied) for ids in texts]
        cases.append(
            {
                "name": name,
                "tied": tied,
                "texts": [
                    {"ids": flat(ids), "hidden": flat(hidden), "logits": flat(logits)}
                    for ids, (hidden, logits) in zip(texts, results)
                ],
            }
        )
    golden = {
        "provenance": {
            "script": "packages/backbone/scripts/golden_llama.py",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": SEED,
        },
        "config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": VOCAB,
            "hidden_size": HIDDEN,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": POSITIONS,
            "rms_norm_eps": EPS,
            "rope_theta": THETA,
            "hidden_act": "silu",
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "weights": {name: {"shape": list(value.shape), "data": flat(value)} for name, value in weights.items()},
        "cases": cases,
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "test" / "golden" / "llama.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
