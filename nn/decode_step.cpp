#include "nn/decode_step.h"

#include "kernels/argmax.h"
#include "kernels/matmul/matmul.h"

namespace echo {

DecodeStep::DecodeStep(const LanguageModel& model, KvCache& cache, DType compute_dtype)
    : model_(model), cache_(cache), compute_dtype_(compute_dtype) {
  const int64_t batch = cache.lengths.dim(0);
  ids_ = Tensor::empty({batch}, DType::i32, model.device());
  logits_ = Tensor::empty({batch, model.config().vocab_size}, compute_dtype, model.device());
  best_ = Tensor::empty({batch}, DType::i32, model.device());
}

void DecodeStep::step() {
  const Tensor hidden = model_.decode(ids_, cache_, compute_dtype_);
  kernels::matmul(logits_, hidden, kernels::Transpose::no, model_.head_weight().data_as(compute_dtype_),
                  kernels::Transpose::yes);
  kernels::argmax(best_, logits_);
}

const Tensor& DecodeStep::logits(const std::vector<int32_t>& ids) {
  ids_.copy_from(Tensor::from(ids));
  if constexpr (kWithCuda) {
    if (!model_.device().is_cpu() && steps_++ > 0) {
      if (recording_ == nullptr) {
        // Recording increments the host's position counter, and does nothing on the device.
        recording_ = cuda::record_work([this] { step(); });
      } else {
        cache_.count_position();
      }
      cuda::run_recorded(*recording_);
      return logits_;
    }
  }
  step();
  return logits_;
}

std::vector<int32_t> DecodeStep::most_likely(const std::vector<int32_t>& ids) {
  logits(ids);
  const std::vector<int32_t> best = best_.to_vector<int32_t>();
  for (const int32_t id : best)
    if (id < 0) fail(ExitCode::numerical, "the model's logits are not finite: its weights may be damaged");
  return best;
}

}  // namespace echo
