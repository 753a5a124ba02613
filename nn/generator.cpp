#include "nn/generator.h"

#include <algorithm>
#include <chrono>

#include "autograd/no_grad.h"
#include "nn/decode_step.h"

namespace echo {

GenerationStatistics generate(const Llama& model, const std::vector<int32_t>& prompt, const GenerationOptions& options,
                              const std::function<void(int32_t)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  if (prompt.empty()) fail(ExitCode::usage, "generate: the prompt is empty; give at least one token");
  const NoGrad no_grad;
  const LlamaConfig& config = model.config();
  const int64_t prompt_tokens = int64_t(prompt.size());
  GenerationStatistics statistics;
  statistics.prompt_tokens = prompt_tokens;
  if (options.max_new_tokens <= 0) return statistics;
  KvCache cache = model.make_cache(1, prompt_tokens + options.max_new_tokens, options.compute_dtype);
  Sampler sampler(options.sampling);

  auto start = Clock::now();
  ForwardOptions forward;
  forward.compute_dtype = options.compute_dtype;
  forward.cache = &cache;
  const ForwardResult result = model.forward(Tensor::from(prompt, {1, prompt_tokens}), forward);
  const Tensor hidden = result.hidden.data().narrow(1, prompt_tokens - 1, 1).clone().reshape({1, config.hidden_size});
  int32_t token = sampler.choose(model.logits(hidden).reshape({config.vocab_size}));
  statistics.prefill_seconds = seconds_since(start);

  start = Clock::now();
  DecodeStep step(model, cache, options.compute_dtype);
  while (true) {
    if (std::find(config.eos_token_id.begin(), config.eos_token_id.end(), token) != config.eos_token_id.end()) {
      statistics.ended = true;
      break;
    }
    on_token(token);
    if (++statistics.new_tokens >= options.max_new_tokens) break;
    ++statistics.decode_steps;
    token = options.sampling.temperature <= 0 ? step.most_likely({token})[0]
                                              : sampler.choose(step.logits({token}).reshape({config.vocab_size}));
  }
  statistics.decode_seconds = seconds_since(start);
  return statistics;
}

}  // namespace echo
