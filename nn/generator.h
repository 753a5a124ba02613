#pragma once

#include <functional>
#include <vector>

#include "nn/language_model.h"
#include "nn/sampler.h"

namespace echo {

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  DType compute_dtype = DType::f32;
};

struct GenerationStatistics {
  int64_t prompt_tokens = 0, new_tokens = 0;  // over all prompts
  int64_t decode_steps = 0;  // forward passes of one token per sequence: the first new token comes from the prompts' pass
  double prefill_seconds = 0, decode_seconds = 0;
  std::vector<bool> ended;  // by prompt: an end-of-text token came, which is not counted and not handed out
};

// Continues each prompt (token ids, BOS included where the model wants it) one token at a time, all of them in one batch,
// whatever their lengths; each token goes to `on_token` at once, with the number of its prompt. A text ends at an end-of-text
// token of the config, or after max_new_tokens. What is written for a prompt does not depend on its company but for rounding;
// prompt i draws with sampling.seed + i. Throws Error (usage) when there is no prompt or one is empty.
GenerationStatistics generate(const LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
                              const GenerationOptions& options, const std::function<void(size_t prompt, int32_t id)>& on_token);

}  // namespace echo
