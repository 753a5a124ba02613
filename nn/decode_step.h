#pragma once

#include <vector>

#include "nn/language_model.h"
#include "tensor/cuda_graph.h"

namespace echo {

// One generation step: takes the next token of each sequence, and returns the logits for the position after it. On a GPU the
// second step records the kernels (in the first one, libraries initialise themselves). From then on one call starts all of
// them.
class DecodeStep {
 public:
  // `cache` holds the prompts (ForwardOptions::cache). Model and cache must outlive this object.
  DecodeStep(const LanguageModel& model, KvCache& cache, DType compute_dtype);
  DecodeStep(const DecodeStep&) = delete;
  DecodeStep& operator=(const DecodeStep&) = delete;

  // ids: one per sequence, as input of this step. Returns (B, V) in the compute dtype, on the model's device. The next step
  // overwrites it. Throws Error when the cache is full.
  const Tensor& logits(const std::vector<int32_t>& ids);
  // The most likely token after each id, from the logits of the same step. Waits for the GPU. Throws Error (numerical) when
  // logits are not finite.
  std::vector<int32_t> most_likely(const std::vector<int32_t>& ids);

 private:
  void step();

  const LanguageModel& model_;
  KvCache& cache_;
  DType compute_dtype_;
  Tensor ids_, logits_, best_;  // at fixed addresses: (B) i32, (B, V), (B) i32
  int64_t steps_ = 0;
  cuda::RecordedWorkPointer recording_;
};

}  // namespace echo
