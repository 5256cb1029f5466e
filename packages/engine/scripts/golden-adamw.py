"""Writes test/golden/adamw.json: AdamW, norm clipping and the linear schedule, computed by PyTorch.

    python3 packages/engine/scripts/golden-adamw.py

Float32 on the CPU. Each step clips the given gradients to norm 1, then updates; the learning rate of step n (from 0)
is the base rate times the schedule's factor.
"""

import json
import pathlib

import torch

torch.manual_seed(0)

STEPS, TOTAL, WARMUP, BASE_RATE = 8, 10, 3, 5e-2
BETAS, EPS, WEIGHT_DECAY, MAX_NORM = (0.9, 0.999), 1e-8, 0.1, 1.0
SHAPES = {
    "dense.weight": (3, 4),
    "dense.bias": (4,),
    "LayerNorm.weight": (4,),
    "tiny.weight": (2, 2),
}
DECAYING = ("dense.weight", "tiny.weight")


def listed(tensor):
    return tensor.detach().flatten().tolist()


params = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in SHAPES.items()}
initial = {name: listed(p) for name, p in params.items()}
optimizer = torch.optim.AdamW(
    [
        {"params": [p for n, p in params.items() if n in DECAYING], "weight_decay": WEIGHT_DECAY},
        {"params": [p for n, p in params.items() if n not in DECAYING], "weight_decay": 0.0},
    ],
    lr=BASE_RATE,
    betas=BETAS,
    eps=EPS,
)
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda step: step / WARMUP if step < WARMUP else max(0.0, (TOTAL - step) / (TOTAL - WARMUP)),
)

steps = []
for step in range(STEPS):
    # Sizes from far below to far above the clipping bound, and a tensor whose gradients are tiny next to eps.
    size = 10.0 ** (step % 4 - 2)
    gradients = {n: torch.randn(s) * (1e-8 if n == "tiny.weight" else size) for n, s in SHAPES.items()}
    for name, p in params.items():
        p.grad = gradients[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(params.values(), MAX_NORM)
    clipped = {n: listed(p.grad) for n, p in params.items()}
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    schedule.step()
    steps.append(
        {
            "learningRate": rate,
            "gradients": {n: listed(g) for n, g in gradients.items()},
            "norm": norm.item(),
            "clipped": clipped,
            "params": {n: listed(p) for n, p in params.items()},
            "m": {n: listed(optimizer.state[p]["exp_avg"]) for n, p in params.items()},
            "v": {n: listed(optimizer.state[p]["exp_avg_sq"]) for n, p in params.items()},
        }
    )

golden = {
    "provenance": {
        "script": "packages/engine/scripts/golden-adamw.py",
        "torch": torch.__version__,
        "seed": 0,
    },
    "options": {
        "total": TOTAL,
        "warmup": WARMUP,
        "baseRate": BASE_RATE,
        "betas": BETAS,
        "eps": EPS,
        "weightDecay": WEIGHT_DECAY,
        "maxNorm": MAX_NORM,
    },
    "shapes": SHAPES,
    "initial": initial,
    "steps": steps,
}
path = pathlib.Path(__file__).parent.parent / "test" / "golden" / "adamw.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(golden, indent=1) + "\n")
print(f"wrote {path.name} with torch {torch.__version__}")
