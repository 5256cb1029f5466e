"""Times the pre-training benchmark's step in PyTorch; the protocol is that of torch_bert.py beside it.

Masked language modelling with a loss at several exits: one prediction head for all layers, whose decoder is the word
embedding, and a sentence-pair head on the first token. Which (place, layer) pairs are scored is part of the batch, as
`(row * length + position) * depth + layer - 1`.
"""

import torch
import torch.nn.functional as F
from torch_bert import hidden_states, linear, serve


def mlm_loss(params, batch, sizes, training):
    width, depth = sizes["width"], sizes["depth"]
    states = hidden_states(params, batch, sizes, training)
    flat = torch.stack([hidden.reshape(-1, width) for hidden in states], 1).view(-1, width)
    # index_select: the gradient of plain indexing is many times slower on the CPU.
    predicted = F.gelu(linear(params, flat.index_select(0, batch["scored"]), "mlm.transform.dense"))
    norm = "mlm.transform.LayerNorm"
    predicted = F.layer_norm(predicted, (width,), params[norm + ".weight"], params[norm + ".bias"], 1e-12)
    words = params["backbone.embeddings.word_embeddings.weight"]
    tokens = F.cross_entropy(F.linear(predicted, words, params["mlm.bias"]), batch["targets"], reduction="none")
    pooled = torch.tanh(linear(params, flat.index_select(0, batch["pairScored"]), "backbone.pooler.dense"))
    pairs = F.cross_entropy(linear(params, pooled, "mlm.pair"), batch["pairTargets"], reduction="none")
    return (tokens * batch["weights"]).sum() + (pairs * batch["pairWeights"]).sum()


if __name__ == "__main__":
    serve(mlm_loss)
