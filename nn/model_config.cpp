#include "nn/model_config.h"

#include <cmath>

namespace echo {

void validate(const LlamaConfig& config, std::string_view source, ExitCode code) {
  const auto refuse = [&](const auto&... parts) { fail(code, source, ": ", parts...); };
  // The limits are far above any real model. Products of sizes stay below 2^62.
  const auto expect = [&](std::string_view name, int64_t value, int64_t most) {
    if (value < 1 || value > most) refuse(name, " is ", value, ", expected 1 to ", most);
  };
  expect("vocab_size", config.vocab_size, int64_t{1} << 24);
  expect("hidden_size", config.hidden_size, int64_t{1} << 17);
  expect("intermediate_size", config.intermediate_size, int64_t{1} << 20);
  expect("num_hidden_layers", config.num_hidden_layers, 1024);
  expect("num_attention_heads", config.num_attention_heads, 2048);
  expect("num_key_value_heads", config.num_key_value_heads, 2048);
  expect("head_dim", config.head_dim, 2048);
  expect("max_position_embeddings", config.max_position_embeddings, int64_t{1} << 30);
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    refuse("num_attention_heads ", config.num_attention_heads, " is not a multiple of num_key_value_heads ",
           config.num_key_value_heads);
  if (config.head_dim % 2 != 0) refuse("head_dim ", config.head_dim, " is odd, expected an even number: RoPE rotates pairs");
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1))
    refuse("rms_norm_eps is ", config.rms_norm_eps, ", expected a small positive number");
  if (!(config.initializer_range > 0 && config.initializer_range < 100))
    refuse("initializer_range is ", config.initializer_range, ", expected a positive number");
  if (!(config.rope_theta > 1 && std::isfinite(config.rope_theta)))
    refuse("rope_theta is ", config.rope_theta, ", expected a number above 1");
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type != RopeType::none && !(scaling.factor >= 1 && std::isfinite(scaling.factor)))
    refuse("the RoPE factor is ", scaling.factor, ", expected 1 or more");
  if (scaling.type == RopeType::llama3) {
    if (!(scaling.low_freq_factor > 0 && scaling.high_freq_factor > scaling.low_freq_factor &&
          std::isfinite(scaling.high_freq_factor)))
      refuse("the RoPE factors low_freq_factor ", scaling.low_freq_factor, " and high_freq_factor ", scaling.high_freq_factor,
             " must be positive and increasing");
    expect("original_max_position_embeddings", scaling.original_max_position_embeddings, int64_t{1} << 30);
  }
  const auto expect_token = [&](std::string_view name, int64_t token) {
    if (token < 0 || token >= config.vocab_size) refuse(name, " ", token, " is outside the vocabulary of ", config.vocab_size);
  };
  if (config.bos_token_id) expect_token("bos_token_id", *config.bos_token_id);
  for (const int64_t token : config.eos_token_id) expect_token("eos_token_id", token);
  if (!is_float(config.dtype)) refuse("dtype ", config.dtype, " is not a float type");
}

}  // namespace echo
