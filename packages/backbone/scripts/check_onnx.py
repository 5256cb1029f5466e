"""Checks ONNX files with ONNX's own checker and prints what they are, one JSON object a line.

Usage: python3 check_onnx.py <file>...     Needs Debian's python3-onnx.
"""

import json
import sys

import onnx


def count(graph, op):
    """Nodes of one kind in a graph and its branches, and how many weights lie in branches."""
    nodes = weights = 0
    for node in graph.node:
        nodes += node.op_type == op
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner_nodes, inner_weights = count(attribute.g, op)
                nodes += inner_nodes
                weights += inner_weights + len(attribute.g.initializer)
    return nodes, weights


for path in sys.argv[1:]:
    # By path and not by content: files with external data, or above 2 GB, can only be checked so.
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    branches, weights = count(model.graph, "If")
    print(
        json.dumps(
            {
                "irVersion": model.ir_version,
                "opset": {entry.domain: entry.version for entry in model.opset_import},
                "inputs": [value.name for value in model.graph.input],
                "outputs": [value.name for value in model.graph.output],
                "metadata": {entry.key: json.loads(entry.value) for entry in model.metadata_props},
                "branches": branches,
                "weightsInBranches": weights,
                "weightsOutside": len(model.graph.initializer),
            }
        )
    )
