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
  // forward passes with one token per sequence; the first new token comes from the pass over the prompts
  int64_t decode_steps = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  std::vector<bool> ended;  // by prompt: an end-of-text token was generated, which is neither counted nor passed to on_token
};

// Continues each prompt (token ids, with BOS if the model expects it) one token at a time. All prompts, of any lengths, form
// one batch. Each token goes to `on_token` at once, with the number of its prompt. A text ends with an end-of-text token of the
// config, or after max_new_tokens. The tokens for a prompt do not depend on the other prompts, except for rounding. Prompt i
// uses the seed sampling.seed + i. Throws Error: usage when there is no prompt or one is empty, numerical when logits are not
// finite.
GenerationStatistics generate(const LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
                              const GenerationOptions& options, const std::function<void(size_t prompt, int32_t id)>& on_token);

}  // namespace echo
