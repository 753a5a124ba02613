#pragma once

#include "kernels/decode/projections.h"
#include "nn/model_config.h"
#include "nn/module.h"

namespace echo {

// down(silu(gate(x)) * up(x)); gate and up are one fused projection.
class Mlp : public Module {
 public:
  Mlp(const LlamaConfig& config, int64_t layer, const WeightOptions& options);
  Variable forward(const Variable& x) const;  // (..., D) -> (..., D)
  // Adds the MLP of RMSNorm(x) to x: (B, D). No gradient.
  void decode(const kernels::NormedRows& x) const;

 private:
  int64_t width_;
  Variable gate_up_, down_;
};

}  // namespace echo
