import { describe, expect, it } from "vitest";
import { BackboneError } from "../src/errors.js";
import { parseLlamaConfig } from "../src/llama-config.js";

const llama7b = {
  architectures: ["LlamaForCausalLM"],
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_act: "silu",
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 11008,
  max_position_embeddings: 2048,
  model_type: "llama",
  num_attention_heads: 32,
  num_hidden_layers: 32,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  use_cache: true,
  vocab_size: 32000,
};

describe("config.json of a decoder", () => {
  it("reads LLaMA-7b, where every query head has its own keys", () => {
    expect(parseLlamaConfig(llama7b, "config.json")).toEqual({
      vocabSize: 32000,
      hidden: 4096,
      depth: 32,
      heads: 32,
      kvHeads: 32,
      headSize: 128,
      intermediate: 11008,
      maxPositions: 2048,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
      tied: false,
      initializerRange: 0.02,
      bosTokenId: 1,
      eosTokenIds: [2],
      extra: {
        architectures: ["LlamaForCausalLM"],
        hidden_act: "silu",
        model_type: "llama",
        use_cache: true,
      },
    });
  });

  it("reads grouped queries, a head size of its own, several end tokens and new rotary fields", () => {
    const config = parseLlamaConfig(
      {
        ...llama7b,
        num_key_value_heads: 8,
        head_dim: 64,
        eos_token_id: [2, 7],
        tie_word_embeddings: true,
        rope_scaling: null,
        rope_parameters: { rope_type: "default", rope_theta: 500000 },
      },
      "config.json",
    );
    expect(config).toMatchObject({ kvHeads: 8, headSize: 64, tied: true, ropeTheta: 500000 });
    expect(config.eosTokenIds).toEqual([2, 7]);
  });

  it.each([
    ["UNSUPPORTED_MODEL", { model_type: "mistral" }, /model_type.*"mistral"/],
    ["UNSUPPORTED_MODEL", { model_type: undefined }, /model_type.*nothing/],
    ["UNSUPPORTED_MODEL", { architectures: ["LlamaForSequenceClassification"] }, /architectures/],
    ["UNSUPPORTED_MODEL", { hidden_act: "gelu" }, /hidden_act.*"gelu"/],
    ["UNSUPPORTED_MODEL", { attention_bias: true }, /attention_bias/],
    ["UNSUPPORTED_MODEL", { pretraining_tp: 2 }, /pretraining_tp/],
    ["UNSUPPORTED_MODEL", { rope_scaling: { type: "linear", factor: 2 } }, /rope_scaling.*linear/],
    ["UNSUPPORTED_MODEL", { rope_scaling: 4 }, /rope_scaling/],
    ["BAD_CONFIG", { rope_theta: 1e4, rope_parameters: { rope_theta: 5e5 } }, /rope_theta/],
    ["BAD_CONFIG", { hidden_size: undefined }, /hidden_size is missing/],
    ["BAD_CONFIG", { hidden_size: "4096" }, /hidden_size must be a number/],
    ["BAD_CONFIG", { tie_word_embeddings: 1 }, /tie_word_embeddings must be a boolean/],
    ["BAD_CONFIG", { num_hidden_layers: 1e6 }, /depth/],
    ["BAD_CONFIG", { num_attention_heads: 0 }, /heads/],
    ["BAD_CONFIG", { num_attention_heads: 3 }, /headSize/],
    ["BAD_CONFIG", { head_dim: 7 }, /headSize must be even/],
    ["BAD_CONFIG", { num_key_value_heads: 5 }, /kvHeads must divide/],
    ["BAD_CONFIG", { rms_norm_eps: -1 }, /rmsNormEps/],
    ["BAD_CONFIG", { rope_theta: 0 }, /ropeTheta/],
    ["BAD_CONFIG", { bos_token_id: 32000 }, /bosTokenId/],
    ["BAD_CONFIG", { eos_token_id: [2, "x"] }, /eosTokenIds/],
  ])("refuses with %s %j", (code, change, message) => {
    const parse = () => parseLlamaConfig({ ...llama7b, ...change }, "config.json");
    expect(parse).toThrow(message);
    expect(parse).toThrow(expect.objectContaining({ code }));
    expect(parse).toThrow(BackboneError);
  });

  it.each([null, [], "llama"])("refuses %j", (json) => {
    expect(() => parseLlamaConfig(json, "config.json")).toThrow(/must hold a JSON object/);
  });
});
