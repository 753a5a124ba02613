#pragma once

#include "autograd/variable.h"
#include "kernels/gradient_mode.h"

namespace echo {

// Where a backward function may put the gradient of an input itself: the accumulated gradient of a leaf (saving a tensor and a
// pass), or else a fresh tensor.
//   GradientTarget dw(weight);
//   matmul(dw.tensor(), ..., dw.mode());
//   return {dx, dw.result()};
class GradientTarget {
 public:
  explicit GradientTarget(const Variable& input);
  Tensor& tensor() { return tensor_; }  // accumulator dtype, the input's shape
  GradientMode mode() const { return mode_; }
  Tensor result() const;  // undefined for a leaf: its gradient is in place

 private:
  Tensor tensor_;
  DType input_dtype_;
  GradientMode mode_ = GradientMode::overwrite;
  bool in_place_ = false;
};

}  // namespace echo
