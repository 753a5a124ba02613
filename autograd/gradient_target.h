#pragma once

#include "autograd/variable.h"
#include "kernels/gradient_mode.h"

namespace echo {

// Where a backward function writes the gradient of an input: directly into the accumulated gradient of a leaf, which saves a
// tensor and a pass over it, or into a new tensor for any other input.
//   GradientTarget dw(weight);
//   matmul(dw.tensor(), ..., dw.mode());
//   return {dx, dw.result()};
class GradientTarget {
 public:
  explicit GradientTarget(const Variable& input);
  Tensor& tensor() { return tensor_; }  // the input's shape, in the accumulator dtype
  GradientMode mode() const { return mode_; }
  Tensor result() const;  // what the backward function returns: undefined for a leaf, whose gradient is already in place

 private:
  Tensor tensor_;
  DType input_dtype_;
  GradientMode mode_ = GradientMode::overwrite;
  bool in_place_ = false;
};

}  // namespace echo
