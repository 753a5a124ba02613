#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/shape.h"

namespace echo {

// One parameter of a model: its Hugging Face name and its shape.
struct WeightShape {
  std::string name;
  Shape shape;
};

inline constexpr std::string_view kEmbeddingWeight = "model.embed_tokens.weight";  // (V, D)
inline constexpr std::string_view kFinalNormWeight = "model.norm.weight";          // (D)
inline constexpr std::string_view kHeadWeight = "lm_head.weight";                  // (V, D), absent in a tied model

// layer_weight(3, "self_attn.q_proj") -> "model.layers.3.self_attn.q_proj.weight". The parts of a layer, with weights (out,
// in):
//   self_attn.q_proj (H*Dh, D), self_attn.k_proj (Hkv*Dh, D): only in layers that are not followers
//   self_attn.v_proj (Hkv*Dh, D), self_attn.o_proj (D, H*Dh)
//   mlp.gate_proj, mlp.up_proj (intermediate, D), mlp.down_proj (D, intermediate)
//   input_layernorm, post_attention_layernorm (D)
std::string layer_weight(int64_t layer, std::string_view part);

}  // namespace echo
