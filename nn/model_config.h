#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"

namespace echo {

enum class RopeType { none, linear, llama3 };

// How rotary frequencies are stretched for texts longer than those of the first training. `none`: not at all.
//   linear: every frequency divided by `factor`.
//   llama3: wavelengths over original_max_position_embeddings / low_freq_factor divided by `factor`, those under
//     original_max_position_embeddings / high_freq_factor kept, those between interpolated.
struct RopeScaling {
  RopeType type = RopeType::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;                  // llama3 only
  double high_freq_factor = 4.0;                 // llama3 only
  int64_t original_max_position_embeddings = 0;  // llama3 only, tokens
  bool operator==(const RopeScaling&) const = default;
};

// The shape of a Llama or of a model much like it, in the field names of Hugging Face's config.json. A family that has a
// setting which Llama lacks (biases, say) adds a field here whose default is what Llama does, and reads and writes it in its
// ModelFamily.
struct LlamaConfig {
  std::string family = "llama";  // ModelFamily::model_type (nn/model_families.h)
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;                 // D, width of the residual stream
  int64_t intermediate_size = 0;           // width inside the MLP
  int64_t num_hidden_layers = 0;           // L
  int64_t num_attention_heads = 0;         // H, query heads
  int64_t num_key_value_heads = 0;         // Hkv, divides H
  int64_t head_dim = 0;                    // Dh; H * Dh is D in all published models, but need not be
  int64_t max_position_embeddings = 2048;  // tokens that the model was trained for
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;  // base of the rotary frequencies
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;  // the head uses the embedding's matrix
  double initializer_range = 0.02;   // standard deviation of initial weights
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;  // any of them ends a text; empty: none
  std::optional<int64_t> pad_token_id;
  DType dtype = DType::f32;  // of the stored weights; float16 reads as f32
  bool operator==(const LlamaConfig&) const = default;
};

// Refuses sizes that are zero, negative, absurd or do not divide, and token ids outside the vocabulary; no count of
// parameters or bytes of a config that passes can overflow int64. `source` begins every message.
void validate(const LlamaConfig& config, std::string_view source, ExitCode code = ExitCode::bad_data);

}  // namespace echo
