#pragma once

#include <vector>

#include "nn/language_model.h"
#include "tensor/cuda_graph.h"

namespace echo {

// The step of generation: the next token of each sequence goes in, the logits of the position after it come out. On a GPU the
// kernels of a step are recorded the second time (the first one lets libraries prepare themselves) and started by one call from
// then on.
class DecodeStep {
 public:
  // `cache` holds the prompts (ForwardOptions::cache); both must outlive this.
  DecodeStep(const LanguageModel& model, KvCache& cache, DType compute_dtype);
  DecodeStep(const DecodeStep&) = delete;
  DecodeStep& operator=(const DecodeStep&) = delete;

  // ids: one per sequence. (B, V) in the compute dtype, where the model is; overwritten by the next step.
  const Tensor& logits(const std::vector<int32_t>& ids);
  // The most likely token after each id, by the logits of the same step. Throws Error (numerical) when logits are not finite.
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
