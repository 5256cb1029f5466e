/** @file Goes through a model's graphs, branches included. */
import type { GraphProto, ModelProto } from "onnx-buf";

/** The main graph first, then what lies in its nodes, as deep as it goes. */
export function* graphsOf({ graph }: ModelProto): Generator<GraphProto> {
  if (graph) yield* within(graph);
}

function* within(graph: GraphProto): Generator<GraphProto> {
  yield graph;
  for (const { attribute } of graph.node) for (const { g } of attribute) if (g) yield* within(g);
}
