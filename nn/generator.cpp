#include "nn/generator.h"

#include <algorithm>
#include <chrono>

#include "autograd/no_grad.h"
#include "nn/decode_step.h"

namespace echo {
namespace {

// Runs one pass over all prompts, padded at their ends. Causal attention hides later positions from a prompt's own, and
// set_lengths() removes the padding from the cache. Returns the logits after each prompt's last token, (B, V).
Tensor read_prompts(const LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts, KvCache& cache,
                    DType compute_dtype) {
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  std::vector<int32_t> padded, lengths;
  for (const auto& prompt : prompts) {
    padded.insert(padded.end(), prompt.begin(), prompt.end());
    padded.resize(padded.size() + longest - prompt.size(), 0);
    lengths.push_back(int32_t(prompt.size()));
  }
  const int64_t batch = int64_t(prompts.size()), width = model.config().hidden_size;
  ForwardOptions forward;
  forward.compute_dtype = compute_dtype;
  forward.cache = &cache;
  const Tensor hidden = model.forward(Tensor::from(padded, {batch, int64_t(longest)}), forward).hidden.data();
  cache.set_lengths(lengths);
  Tensor last = Tensor::empty({batch, width}, hidden.dtype(), hidden.device());
  for (int64_t i = 0; i < batch; ++i) last.narrow(0, i, 1).copy_from(hidden.select(0, i).narrow(0, lengths[size_t(i)] - 1, 1));
  return model.logits(last);
}

}  // namespace

GenerationStatistics generate(const LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
                              const GenerationOptions& options,
                              const std::function<void(size_t prompt, int32_t id)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  GenerationStatistics statistics;
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) fail(ExitCode::usage, "generate: the prompt is empty; give at least one token");
    statistics.prompt_tokens += int64_t(prompt.size());
    longest = std::max(longest, int64_t(prompt.size()));
  }
  if (prompts.empty()) fail(ExitCode::usage, "generate: no prompt is given");
  const size_t batch = prompts.size();
  statistics.ended.assign(batch, false);
  if (options.max_new_tokens <= 0) return statistics;
  const NoGrad no_grad;
  const std::vector<int64_t>& ends = model.config().eos_token_id;
  KvCache cache = model.make_cache(int64_t(batch), longest + options.max_new_tokens, options.compute_dtype);
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < batch; ++i) {
    SamplingOptions sampling = options.sampling;
    sampling.seed += i;
    samplers.emplace_back(sampling);
  }
  const auto choose = [&](const Tensor& logits) {
    const Tensor here = logits.to(Device{});  // one copy from the GPU for all texts
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < batch; ++i)
      tokens.push_back(statistics.ended[i] ? 0 : samplers[i].choose(here.select(0, int64_t(i))));
    return tokens;
  };

  auto start = Clock::now();
  std::vector<int32_t> tokens = choose(read_prompts(model, prompts, cache, options.compute_dtype));
  statistics.prefill_seconds = seconds_since(start);

  start = Clock::now();
  DecodeStep step(model, cache, options.compute_dtype);
  for (int64_t written = 1;; ++written) {
    bool any = false;
    for (size_t i = 0; i < batch; ++i) {
      if (statistics.ended[i]) continue;
      if (std::find(ends.begin(), ends.end(), tokens[i]) != ends.end()) {
        statistics.ended[i] = true;
        continue;
      }
      on_token(i, tokens[i]);
      ++statistics.new_tokens;
      any = true;
    }
    if (!any || written >= options.max_new_tokens) break;
    ++statistics.decode_steps;
    // Finished sequences keep decoding; their tokens are ignored.
    tokens = options.sampling.temperature <= 0 ? step.most_likely(tokens) : choose(step.logits(tokens));
  }
  statistics.decode_seconds = seconds_since(start);
  return statistics;
}

}  // namespace echo
