#pragma once

#include "base/random.h"
#include "tensor/tensor.h"

namespace echo {

struct SamplingOptions {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // choose among the k most likely tokens; 0: all
  double top_p = 1;        // then among the fewest tokens whose probabilities sum to p
  uint64_t seed = 0;
};

// Chooses the next token from logits. The n-th choice depends on (seed, n) and the logits only.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  // logits: (V), a floating dtype. Ties go to the lowest id. Minus infinity is never chosen.
  // Throws Error (numerical) when a logit is NaN or plus infinity, or when all are minus infinity.
  int32_t choose(const Tensor& logits);

 private:
  SamplingOptions options_;
  RandomSequence random_;
};

}  // namespace echo
