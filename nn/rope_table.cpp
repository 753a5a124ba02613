#include "nn/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace echo {
namespace {

double stretched(double frequency, const RopeScaling& scaling) {
  switch (scaling.type) {
    case RopeType::none:
      return frequency;
    case RopeType::linear:
      return frequency / scaling.factor;
    case RopeType::llama3: {
      const double original = double(scaling.original_max_position_embeddings);
      // full rotations over the length of the original training
      const double turns = original * frequency / (2 * std::numbers::pi);
      if (turns > scaling.high_freq_factor) return frequency;
      if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
      const double kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
      return (1 - kept) * frequency / scaling.factor + kept * frequency;
    }
  }
  return frequency;
}

}  // namespace

kernels::RopeTable make_rope_table(const LlamaConfig& config, int64_t positions, DType dtype, Device device) {
  const int64_t half = config.head_dim / 2;
  kernels::RopeTable table{Tensor::empty({positions, half}, dtype), Tensor::empty({positions, half}, dtype)};
  dispatch_float(dtype, [&]<class T>() {
    T *cosine = table.cosine.data<T>(), *sine = table.sine.data<T>();
    for (int64_t i = 0; i < half; ++i) {
      const double frequency =
          stretched(std::pow(config.rope_theta, -2.0 * double(i) / double(config.head_dim)), config.rope_scaling);
      for (int64_t t = 0; t < positions; ++t) {
        cosine[t * half + i] = T(static_cast<accumulator<T>>(std::cos(double(t) * frequency)));
        sine[t * half + i] = T(static_cast<accumulator<T>>(std::sin(double(t) * frequency)));
      }
    }
  });
  return {table.cosine.to(device), table.sine.to(device)};
}

kernels::RopeTable RopeTableCache::at_least(int64_t positions, DType compute_dtype) {
  const DType dtype = accumulator_dtype(compute_dtype);
  const std::lock_guard lock(mutex_);
  if (table_.positions() < positions || table_.cosine.dtype() != dtype)
    table_ =
        make_rope_table(config_, std::max(positions, std::min(2 * positions, config_.max_position_embeddings)), dtype, device_);
  return table_;
}

}  // namespace echo
