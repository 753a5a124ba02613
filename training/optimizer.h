#pragma once

#include "kernels/optimizer/adamw.h"
#include "nn/module.h"
#include "training/parameter_buckets.h"
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
  // This rank keeps the moments of its slices of `buckets` and updates these. Then all ranks collect the parameters. The bits
  // are those of an optimizer that updates everything. All ranks call step() and the provider of state_provider() together.
  // `buckets` has the parameters of `module` and must outlive the optimizer.
  AdamW(Module& module, const OptimizerSettings& settings, ParameterBuckets& buckets);

  // The norm of all gradients together, before clipping. Waits for the GPU.
  double gradient_norm() const;
  // Updates every parameter that has a gradient. `norm` is the norm of all gradients, and must be finite.
  void step(double learning_rate, double norm);
  void clear_gradients();
  int64_t steps() const { return steps_; }

  // The moments under the parameters' checkpoint names: <name>.first_moment, <name>.second_moment. Empty before the first step.
  std::vector<TensorDescription> state() const;
  // Returns them. If ranks hold slices, all ranks ask for all tensors of state() in its order, and each gets them. It keeps the
  // moments of one bucket at a time. The optimizer must outlive it and must not take a step meanwhile.
  TensorProvider state_provider() const;
  // Does the part of this rank when another one saves the state.
  void take_part_in_saving() const;
  // Continues from a stored state after `steps` steps. Throws Error (bad_data) with the name of a missing or ill-shaped tensor.
  void restore(const TensorSource& source, int64_t steps);

 private:
  // Elements [begin, begin + count) of a parameter, and their moments.
  struct Piece {
    Parameter* parameter;
    int64_t begin, count;
    Tensor first_moment, second_moment;
  };

  void make_moments();
  kernels::AdamWSpan span_of(const Piece& piece) const;

  std::vector<Parameter*> parameters_;
  OptimizerSettings settings_;
  ParameterBuckets* buckets_ = nullptr;
  std::vector<std::vector<Piece>> groups_;  // one per bucket, or a single one with all parameters
  int64_t steps_ = 0;
};

}  // namespace echo
