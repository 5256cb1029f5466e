"""Times the engine benchmark's BERT in PyTorch, one command at a time.

Reads JSON lines from standard input and answers each with one JSON line:

    {"command": "load", "manifest": path, "data": path, "sizes": {...}, "threads": n, "adamw": {...}}
                                -> {"blas": [paths of the libraries that multiply matrices],
                                    "core": processor that OpenBLAS chose its kernels for, or null}
    {"command": "forward"}      -> {"milliseconds": t, "loss": without dropout}
    {"command": "step"}         -> {"milliseconds": t, "loss": with dropout}

The manifest lists every parameter and batch tensor: name, type, shape, byte offset. All of it is float32 or int32.
"""

import ctypes
import json
import sys
import time

import torch
import torch.nn.functional as F


def load(request):
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    with open(request["manifest"], encoding="utf-8") as file:
        manifest = json.load(file)
    with open(request["data"], "rb") as file:
        data = bytearray(file.read())
    tensors = {}
    for entry in manifest:
        count = 1
        for size in entry["shape"]:
            count *= size
        kind = torch.float32 if entry["dtype"] == "float32" else torch.int32
        flat = torch.frombuffer(data, dtype=kind, count=count, offset=entry["offset"])
        tensors[entry["name"]] = flat.reshape(entry["shape"]).clone()
    batch = {name[6:]: t for name, t in tensors.items() if name.startswith("batch.")}
    for name, tensor in batch.items():
        if tensor.dtype == torch.int32:
            batch[name] = tensor.long()
    params = {
        name: torch.nn.Parameter(tensor)
        for name, tensor in tensors.items()
        if not name.startswith("batch.")
    }
    return params, batch, request["sizes"]


def hidden_states(params, batch, sizes, training):
    """The output of every layer, each `[rows, length, width]`."""
    rate = sizes["dropout"]
    rows, length = batch["ids"].shape
    heads, width = sizes["heads"], sizes["width"]
    depth_of_head = width // heads

    def dense(x, path):
        return linear(params, x, path)

    def norm(x, path):
        return F.layer_norm(x, (width,), params[path + ".weight"], params[path + ".bias"], 1e-12)

    def drop(x):
        return F.dropout(x, rate, training)

    def split(x):
        return x.view(rows, length, heads, depth_of_head).transpose(1, 2)

    embeddings = "backbone.embeddings."
    hidden = F.embedding(batch["ids"], params[embeddings + "word_embeddings.weight"])
    hidden = hidden + F.embedding(batch["types"], params[embeddings + "token_type_embeddings.weight"])
    hidden = hidden + F.embedding(batch["positions"], params[embeddings + "position_embeddings.weight"])
    hidden = drop(norm(hidden, embeddings + "LayerNorm"))
    bias = ((1 - batch["mask"]) * -10000.0)[:, None, None, :]
    states = []
    for layer in range(1, sizes["depth"] + 1):
        path = f"backbone.encoder.layer.{layer - 1}."
        query = split(dense(hidden, path + "attention.self.query")) * depth_of_head**-0.5
        key = split(dense(hidden, path + "attention.self.key"))
        value = split(dense(hidden, path + "attention.self.value"))
        weights = drop(torch.softmax(torch.matmul(query, key.transpose(-1, -2)) + bias, dim=-1))
        mixed = torch.matmul(weights, value).transpose(1, 2).reshape(rows, length, width)
        attended = drop(dense(mixed, path + "attention.output.dense"))
        hidden = norm(attended + hidden, path + "attention.output.LayerNorm")
        inner = F.gelu(dense(hidden, path + "intermediate.dense"))
        hidden = norm(drop(dense(inner, path + "output.dense")) + hidden, path + "output.LayerNorm")
        states.append(hidden)
    return states


def linear(params, x, path):
    return F.linear(x, params[path + ".weight"], params[path + ".bias"])


def exit_loss(params, batch, sizes, training):
    """The sum over exits of the mean cross-entropy."""
    total = 0
    for layer, hidden in enumerate(hidden_states(params, batch, sizes, training), start=1):
        pooled = torch.tanh(linear(params, hidden[:, 0], f"heads.{layer}.pooler"))
        pooled = F.dropout(pooled, sizes["dropout"], training)
        logits = linear(params, pooled, f"heads.{layer}.classifier")
        total = total + F.cross_entropy(logits, batch["labels"])
    return total


def libraries():
    """File names of the BLAS that this process has loaded, resolved."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            paths = {line.split()[-1] for line in file if "/" in line}
    except OSError:
        return []
    return sorted(path for path in paths if "blas" in path or "mkl_core" in path)


def openblas_core(paths):
    """The processor that OpenBLAS chose its kernels for, such as Haswell, or None where PyTorch uses another BLAS."""
    for path in paths:
        if "openblas" not in path:
            continue
        try:
            name = ctypes.CDLL(path).openblas_get_corename
        except (OSError, AttributeError):
            continue
        name.restype = ctypes.c_char_p
        return name().decode()
    return None


def create_optimizer(params, adamw):
    def decays(name):
        return not (name.endswith(".bias") or "LayerNorm" in name)

    common = {"lr": adamw["learningRate"], "betas": adamw["betas"], "eps": adamw["eps"]}
    groups = [
        {"params": [p for n, p in params.items() if decays(n)], "weight_decay": adamw["weightDecay"]},
        {"params": [p for n, p in params.items() if not decays(n)], "weight_decay": 0.0},
    ]
    # On the CPU the plain loop is the faster of PyTorch's two (32 against 42 ms at width 128).
    return torch.optim.AdamW(groups, foreach=False, **common)


def serve(loss_of):
    """Answers requests until the input ends; `loss_of(params, batch, sizes, training)` is what is timed."""
    model = optimizer = adamw = None
    for line in sys.stdin:
        request = json.loads(line)
        command = request["command"]
        start = time.perf_counter()
        if command == "load":
            model = load(request)
            adamw = request["adamw"]
            optimizer = create_optimizer(model[0], adamw)
            paths = libraries()
            answer = {"blas": paths, "core": openblas_core(paths)}
            print(json.dumps(answer), flush=True)
            continue
        elif command == "forward":
            with torch.inference_mode():
                loss = loss_of(*model, training=False).item()
        elif command == "step":
            optimizer.zero_grad(set_to_none=True)
            total = loss_of(*model, training=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(model[0].values(), adamw["clipNorm"])
            optimizer.step()
            loss = total.item()
        else:
            raise ValueError(f"unknown command {command!r}")
        milliseconds = (time.perf_counter() - start) * 1000
        print(json.dumps({"milliseconds": milliseconds, "loss": loss}), flush=True)


if __name__ == "__main__":
    serve(exit_loss)
