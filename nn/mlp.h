#pragma once

#include "nn/model_config.h"
#include "nn/module.h"

namespace echo {

// down(silu(gate(x)) * up(x)). gate and up are one fused projection.
class Mlp : public Module {
 public:
  Mlp(const LlamaConfig& config, int64_t layer, const WeightOptions& options);
  Variable forward(const Variable& x) const;  // (..., D) -> (..., D), in the dtype of x; see linear() for errors
  // residual += mlp(RMSNorm(residual)). residual: (B, D), contiguous, in the compute dtype. norm: (D), the weight of the
  // RMSNorm. Records nothing.
  void decode(Tensor& residual, const Tensor& norm) const;

 private:
  int64_t width_;  // F
  double eps_;     // of the norm before the MLP
  Variable gate_up_, down_;
};

}  // namespace echo
