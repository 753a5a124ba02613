#pragma once

#include <functional>

#include "nn/llama.h"
#include "nn/sampler.h"

namespace echo {

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  DType compute_dtype = DType::f32;
};

struct GenerationStatistics {
  int64_t prompt_tokens = 0, new_tokens = 0;
  int64_t decode_steps = 0;  // forward passes of one token: the first new token comes from the prompt's pass
  double prefill_seconds = 0, decode_seconds = 0;
  bool ended = false;        // by an end-of-text token, which is not counted and not handed out
};

// Continues `prompt` (token ids, BOS included where the model wants it) one token at a time; each goes to `on_token` at once.
// Ends at an end-of-text token of the config, or after max_new_tokens. Throws Error (usage) when the prompt is empty.
GenerationStatistics generate(const Llama& model, const std::vector<int32_t>& prompt, const GenerationOptions& options,
                              const std::function<void(int32_t)>& on_token);

}  // namespace echo
