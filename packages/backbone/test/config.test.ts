import { describe, expect, it } from "vitest";
import { createBertConfig, parseBertConfig, toBertConfigJson } from "../src/config.js";
import { BackboneError } from "../src/errors.js";

const bertBase = {
  architectures: ["BertForMaskedLM"],
  attention_probs_dropout_prob: 0.1,
  gradient_checkpointing: false,
  hidden_act: "gelu",
  hidden_dropout_prob: 0.1,
  hidden_size: 768,
  initializer_range: 0.02,
  intermediate_size: 3072,
  layer_norm_eps: 1e-12,
  max_position_embeddings: 512,
  model_type: "bert",
  num_attention_heads: 12,
  num_hidden_layers: 12,
  pad_token_id: 0,
  position_embedding_type: "absolute",
  transformers_version: "4.6.0.dev0",
  type_vocab_size: 2,
  use_cache: true,
  vocab_size: 30522,
};

function codeOf(json: unknown): [string, string] {
  try {
    parseBertConfig(json, "config.json");
  } catch (error) {
    if (error instanceof BackboneError) return [error.code, error.message];
    throw error;
  }
  return ["none", ""];
}

describe("config.json", () => {
  it("reads the sizes of BERT-base and writes every field back", () => {
    const config = parseBertConfig(bertBase, "config.json");
    expect(config).toMatchObject({ hidden: 768, depth: 12, heads: 12, intermediate: 3072 });
    expect(config.extra).toEqual({
      architectures: ["BertForMaskedLM"],
      gradient_checkpointing: false,
      position_embedding_type: "absolute",
      model_type: "bert",
      transformers_version: "4.6.0.dev0",
      use_cache: true,
    });
    expect(toBertConfigJson(config)).toEqual({ ...bertBase, classifier_dropout: null });
  });

  it("reads what it wrote", () => {
    const config = createBertConfig({
      vocabSize: 10,
      hidden: 6,
      depth: 2,
      heads: 3,
      act: "gelu_new",
      labels: ["no", "yes"],
      classes: 2,
      problemType: "single_label_classification",
    });
    const again = parseBertConfig(JSON.parse(JSON.stringify(toBertConfigJson(config))), "again");
    expect({ ...again, extra: {} }).toEqual(config);
  });

  it("takes labels from label2id where id2label is missing", () => {
    const config = parseBertConfig({ ...bertBase, label2id: { b: 1, a: 0 } }, "config.json");
    expect(config.labels).toEqual(["a", "b"]);
    expect(config.classes).toBe(2);
  });

  it.each([
    ["another architecture", { model_type: "roberta" }, "UNSUPPORTED_MODEL", "roberta"],
    ["an unknown activation", { hidden_act: "swish" }, "UNSUPPORTED_MODEL", "hidden_act"],
    ["relative positions", { position_embedding_type: "relative_key" }, "UNSUPPORTED_MODEL", "rel"],
    ["a decoder", { is_decoder: true }, "UNSUPPORTED_MODEL", "is_decoder"],
    ["multi-label", { problem_type: "multi_label_classification" }, "UNSUPPORTED_MODEL", "multi"],
    ["heads that do not divide", { num_attention_heads: 7 }, "BAD_CONFIG", "must divide hidden"],
    ["a missing size", { vocab_size: undefined }, "BAD_CONFIG", "vocab_size is missing"],
    ["a size of zero", { num_hidden_layers: 0 }, "BAD_CONFIG", "depth"],
    ["a fractional size", { hidden_size: 768.5 }, "BAD_CONFIG", "768.5"],
    ["a monstrous size", { vocab_size: 1e12 }, "BAD_CONFIG", "1000000000000"],
    ["a size in words", { hidden_size: "768" }, "BAD_CONFIG", "hidden_size must be a number"],
    ["dropout of one", { hidden_dropout_prob: 1 }, "BAD_CONFIG", "hiddenDropout"],
    ["a pad id beyond the vocabulary", { pad_token_id: 30522 }, "BAD_CONFIG", "padTokenId"],
    ["labels with a gap", { id2label: { 0: "a", 2: "b" } }, "BAD_CONFIG", "number its 2 labels"],
    ["two labels alike", { id2label: { 0: "a", 1: "a" } }, "BAD_CONFIG", "alike"],
    [
      "too few labels",
      { id2label: { 0: "a" }, num_labels: 2 },
      "BAD_CONFIG",
      "num_labels must be 1",
    ],
  ])("refuses %s", (_, change, code, text) => {
    const [found, message] = codeOf({ ...bertBase, ...change });
    expect(found).toBe(code);
    expect(message).toContain(text);
    expect(message).toContain("[config.json]");
  });

  it.each([null, [], "text", 3])("refuses %j instead of an object", (json) => {
    expect(codeOf(json)[0]).toBe("BAD_CONFIG");
  });
});
