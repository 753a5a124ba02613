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

// How rotary frequencies are stretched for texts longer than those of the original training. `none`: not at all.
//   linear: every frequency divided by `factor`.
//   llama3: wavelengths above original_max_position_embeddings / low_freq_factor are divided by `factor`, those below
//   original_max_position_embeddings / high_freq_factor are kept, those between are interpolated.
struct RopeScaling {
  RopeType type = RopeType::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;                  // llama3 only
  double high_freq_factor = 4.0;                 // llama3 only
  int64_t original_max_position_embeddings = 0;  // llama3 only, tokens
  bool operator==(const RopeScaling&) const = default;
};

// The shape of a Llama or a similar model, with the field names of Hugging Face's config.json. A family with a setting that
// Llama lacks (for example biases) adds a field here, whose default is Llama's behaviour, and reads and writes it in its
// ModelFamily.
struct LlamaConfig {
  std::string family = "llama";  // ModelFamily::model_type (nn/model_families.h)
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;                 // D, width of the residual stream
  int64_t intermediate_size = 0;           // width inside the MLP
  int64_t num_hidden_layers = 0;           // L
  int64_t num_attention_heads = 0;         // H, query heads
  int64_t num_key_value_heads = 0;         // Hkv, divides H
  int64_t head_dim = 0;                    // Dh; H * Dh equals D in all published models, but this is not required
  int64_t max_position_embeddings = 2048;  // tokens that the model was trained for
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;  // base of the rotary frequencies
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;  // the head uses the embedding's matrix
  double initializer_range = 0.02;   // standard deviation of initial weights
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_id;  // any of them ends a text; may be empty
  std::optional<int64_t> pad_token_id;
  DType dtype = DType::f32;  // of the stored weights; float16 is read as f32
  bool operator==(const LlamaConfig&) const = default;
};

// Throws Error with `code` for sizes that are zero, negative, absurdly large or do not divide, and for token ids outside the
// vocabulary. For a valid config, no number of parameters or bytes overflows int64. `source` begins every message.
void validate(const LlamaConfig& config, std::string_view source, ExitCode code = ExitCode::bad_data);

}  // namespace echo
