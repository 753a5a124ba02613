#pragma once

#include <functional>
#include <memory>

#include "tensor/tensor.h"

namespace echo {

struct VariableState;  // autograd/node.h

// A tensor with its place in a graph. Copies refer to the same variable. This is reverse-mode automatic differentiation with a
// tape that is recorded at run time: operations (autograd/ops.h) make variables, and backward() runs the tape in reverse.
//
//   Variable w(Tensor::from<float>({1, 2, 3}), /*requires_gradient=*/true);
//   sum(square(w)).backward();
//   w.gradient();  // 2, 4, 6
//
// A leaf is a variable made from a tensor. If it requires a gradient, it accumulates the gradient in f32 (f64 for f64) over
// backward passes. When a backward function throws, the pass ends, its graph can no longer be used, and gradients of leaves are
// incomplete until they are cleared. A graph and its leaves may be used by one thread at a time. Functions marked "Leaves"
// throw Error for other variables; functions that need data throw Error when the variable is undefined.
class Variable {
 public:
  Variable() = default;
  // Throws Error when `data` is undefined, or when a gradient is required and the dtype is not a floating one.
  explicit Variable(Tensor data, bool requires_gradient = false);
  explicit Variable(std::shared_ptr<VariableState> state) : state_(std::move(state)) {}  // for the tape

  bool defined() const { return state_ != nullptr; }
  const Tensor& data() const;
  Tensor& data();
  const Shape& shape() const { return data().shape(); }
  DType dtype() const { return data().dtype(); }
  bool requires_gradient() const;
  bool is_leaf() const;

  // The tensor in another floating dtype, for a product: the compute copy if it has that dtype, otherwise a new cast.
  Tensor data_as(DType dtype) const;
  // Leaves: keeps a copy of the data in `dtype`, so that uses need not cast it. Whoever changes the data afterwards must also
  // change the compute copy (as the optimizer does) or call this again. If the data has that dtype, no copy is made.
  void keep_compute_copy(DType dtype);
  const Tensor& compute_copy() const;  // undefined when none is kept

  // Leaves: the accumulated gradient, in the accumulator dtype. Without gradient storage (set_gradient_storage) it is undefined
  // before the first backward pass, and after clear_gradient(), which frees it. So gradients take memory only during the
  // backward pass, while activations give theirs back.
  const Tensor& gradient() const;
  void clear_gradient();

  // Leaves that require a gradient: from now on backward passes add to `storage` in place. It may be a slice of a bucket that
  // holds the gradients of many leaves, so that one call can reduce them all. It is filled with zeros now and by
  // clear_gradient(), and gradient() is then always defined. What was accumulated before is lost. An undefined tensor removes
  // the storage. Throws Error unless storage is contiguous and has the leaf's shape, device and accumulator dtype.
  void set_gradient_storage(Tensor storage);

  // Adds the gradient of this one-element variable (or of sum(seed * this)) to every leaf that it was computed from. The pass
  // frees what the operations saved, so a second call throws Error. It also throws Error when nothing was recorded for this
  // variable. `seed` has this variable's shape and dtype.
  void backward();
  void backward(const Tensor& seed);

  // The hook is called once in each backward pass that reaches this leaf, as soon as the pass has completed the leaf's
  // gradient: after the last operation that uses it, at the beginning of the pass when no operation uses it, or at its end when
  // recorded operations outside this pass use it too. A leaf has one hook. An empty function removes it. Throws Error unless
  // this is a leaf that requires a gradient.
  void set_gradient_ready_hook(std::function<void()> hook);

  // The same tensor as a leaf without gradient.
  Variable detach() const;

  const std::shared_ptr<VariableState>& state() const { return state_; }  // for the tape

 private:
  std::shared_ptr<VariableState> state_;
};

}  // namespace echo
