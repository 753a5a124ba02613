#include "autograd/gradient_target.h"

#include "autograd/node.h"
#include "kernels/cast.h"
#include "tensor/allocator.h"

namespace echo {

GradientTarget::GradientTarget(const Variable& input) : input_dtype_(input.dtype()) {
  const DType dtype = accumulator_dtype(input.dtype());
  if (!input.is_leaf()) {
    tensor_ = Tensor::empty(input.shape(), dtype, input.data().device());
    return;
  }
  in_place_ = true;
  Tensor& gradient = input.state()->gradient;
  if (gradient.defined()) {
    mode_ = GradientMode::accumulate;
  } else {
    const MemoryLabel label("gradients");
    gradient = Tensor::empty(input.shape(), dtype, input.data().device());
  }
  tensor_ = gradient;
}

Tensor GradientTarget::result() const { return in_place_ ? Tensor() : kernels::cast(tensor_, input_dtype_); }

}  // namespace echo
