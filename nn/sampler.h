#pragma once

#include "base/random.h"
#include "tensor/tensor.h"

namespace echo {

struct SamplingOptions {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // choose among the k most likely; 0: all
  double top_p = 1;        // and among the fewest whose probabilities reach p
  uint64_t seed = 0;
};

// Chooses the next token from logits. The n-th choice depends on (seed, n) and the logits only.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  // logits: (V) f32 or f64. Ties go to the lowest id. Minus infinity is never chosen.
  // Throws Error (numerical) when a logit is NaN or plus infinity, or all are minus infinity.
  int32_t choose(const Tensor& logits);

 private:
  SamplingOptions options_;
  RandomSequence random_;
};

}  // namespace echo
