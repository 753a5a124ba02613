#pragma once

#include "nn/module.h"
#include "weight_files/tensor_source.h"

namespace echo {

struct OptimizerSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;   // only on matrices, because norm weights are scales around 1
  double max_grad_norm = 1;  // 0: no clipping
};

// AdamW over all parameters of a module, with clipping by the global norm. The moments are allocated at the first step.
class AdamW {
 public:
  AdamW(Module& module, const OptimizerSettings& settings);

  // The norm of all gradients together, before clipping. Waits for the GPU.
  double gradient_norm() const;
  // Updates every parameter that has a gradient. `norm` is gradient_norm(), and must be finite.
  void step(double learning_rate, double norm);
  void clear_gradients();
  int64_t steps() const { return steps_; }

  // The moments under the parameters' checkpoint names: <name>.first_moment, <name>.second_moment. Empty before the first step.
  NamedTensors state() const;
  // Continues from a stored state after `steps` steps. Throws Error (bad_data) with the name of a missing or ill-shaped tensor.
  void restore(const TensorSource& source, int64_t steps);

 private:
  void make_moments();

  std::vector<Parameter*> parameters_;
  OptimizerSettings settings_;
  std::vector<Tensor> first_moments_, second_moments_;  // one per parameter
  int64_t steps_ = 0;
};

}  // namespace echo
