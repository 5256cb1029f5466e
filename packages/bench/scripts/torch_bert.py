"""Times the engine benchmark's BERT in PyTorch, one command at a time.

Reads JSON lines from standard input and answers each with one JSON line:

    {"command": "load", "manifest": path, "data": path, "sizes": {...}, "threads": n, "adamw": {...}}
                                -> {"blas": [paths of the libraries that multiply matrices],
                                    "core": processor that OpenBLAS chose its kernels for, or null}
    {"command": "forward"}      -> {"milliseconds": t, "loss": without dropout}
    {"command": "step"}         -> {"milliseconds": t, "loss": with dropout}
    {"command": "answer", "layer": n, "ids": [[...]], "types": [[...]], "mask": [[...]]}
                                -> {"milliseconds": t, "logits": [...]}, of the model that ends after that layer

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
    """The output of every layer, each `[rows, length, width]`; nothing runs that is not asked for."""
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
        yield hidden


def linear(params, x, path):
    return F.linear(x, params[path + ".weight"], params[path + ".bias"])


def exit_loss(params, batch, sizes, training):
    """The sum over exits of the mean cross-entropy."""
    total = 0
    for layer, hidden in enumerate(hidden_states(params, batch, sizes, training), start=1):
        logits = exit_logits(params, hidden, layer, sizes["dropout"], training)
        total = total + F.cross_entropy(logits, batch["labels"])
    return total


def exit_logits(params, hidden, layer, rate=0.0, training=False):
    """The answer after a layer; layers share the backbone's pooler where they have none of their own."""
    own = f"heads.{layer}.pooler"
    pooler = own if own + ".weight" in params else "backbone.pooler.dense"
    pooled = F.dropout(torch.tanh(linear(params, hidden[:, 0], pooler)), rate, training)
    return linear(params, pooled, f"heads.{layer}.classifier")


def truncated_logits(params, batch, sizes, last):
    """Logits of the model that ends after a layer."""
    for layer, hidden in enumerate(hidden_states(params, batch, sizes, training=False), start=1):
        if layer == last:
            return exit_logits(params, hidden, layer)


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
        elif command == "answer":
            params, batch, sizes = model
            own = {
                "ids": torch.tensor(request["ids"]),
                "types": torch.tensor(request["types"]),
                "mask": torch.tensor(request["mask"], dtype=torch.float32),
                "positions": batch["positions"],
            }
            start = time.perf_counter()
            with torch.inference_mode():
                logits = truncated_logits(params, own, sizes, request["layer"])
            milliseconds = (time.perf_counter() - start) * 1000
            answer = {"milliseconds": milliseconds, "logits": logits.flatten().tolist()}
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
