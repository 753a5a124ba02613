#include "autograd/ops.h"
#include "autograd/tape.h"

namespace echo {

Variable reshape(const Variable& x, const Shape& shape) {
  return record("reshape", {x}, x.data().reshape(shape),
                [shape = x.shape()](const Tensor& dy) -> Gradients { return {dy.reshape(shape)}; });
}

Variable narrow(const Variable& x, int dimension, int64_t start, int64_t length) {
  // A copy, because operations need contiguous tensors.
  Tensor y = x.data().narrow(dimension, start, length).clone();
  return record("narrow", {x}, y, [=, shape = x.shape()](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    dx.narrow(dimension, start, length).copy_from(dy);
    return {dx};
  });
}

}  // namespace echo
