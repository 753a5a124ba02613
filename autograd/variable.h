#pragma once

#include <functional>
#include <memory>

#include "tensor/tensor.h"

namespace echo {

struct VariableState;  // autograd/node.h

// A tensor that remembers how it was made. Copies are the same variable. Reverse-mode automatic differentiation over a tape
// that is recorded while the program runs: operations (autograd/ops.h) make variables, backward() walks the tape back.
//
//   Variable w(Tensor::from<float>({1, 2, 3}), /*requires_gradient=*/true);
//   sum(square(w)).backward();
//   w.gradient();  // 2, 4, 6
//
// A leaf (made from a tensor) that requires a gradient accumulates it in f32 (f64 for f64) over backward passes. When a
// backward function throws, the pass ends: its graph is given up, and gradients of leaves are incomplete until they are
// cleared. A graph belongs to one thread at a time, and so do the leaves that it was recorded for.
class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor data, bool requires_gradient = false);
  explicit Variable(std::shared_ptr<VariableState> state) : state_(std::move(state)) {}  // for the tape

  bool defined() const { return state_ != nullptr; }
  const Tensor& data() const;
  Tensor& data();
  const Shape& shape() const { return data().shape(); }
  DType dtype() const { return data().dtype(); }
  bool requires_gradient() const;
  bool is_leaf() const;

  // The tensor in another floating dtype, for a product: its compute copy, or else a fresh cast.
  Tensor data_as(DType dtype) const;
  // Leaves: keeps a copy in `dtype` beside the data, so that uses need not cast it. Whoever changes the data afterwards changes
  // the compute copy too (the optimizer does), or calls this again. No copy is made when the data has that dtype.
  void keep_compute_copy(DType dtype);
  const Tensor& compute_copy() const;  // undefined when none is kept

  // Leaves: the accumulated gradient, in the accumulator dtype. Without storage of its own (set_gradient_storage) it is
  // undefined before the first backward pass and after clear_gradient(), which frees it: memory for gradients is then taken
  // during the backward pass, while that of activations is given back.
  const Tensor& gradient() const;
  void clear_gradient();

  // Leaves that require a gradient: backward passes add to `storage` in place from now on, e.g. to a slice of a bucket that
  // holds the gradients of many leaves, so that one call reduces them all. It is filled with zeros now and by
  // clear_gradient(), and gradient() is never undefined. What was accumulated before is dropped. An undefined tensor takes the
  // storage away again. Throws Error unless storage is contiguous and has the leaf's shape and device and its accumulator
  // dtype.
  void set_gradient_storage(Tensor storage);

  // Adds the gradient of this one-element variable (or of sum(seed * this)) to every leaf that it was computed from. What the
  // operations saved is freed on the way, so a second call throws Error; so does a variable that nothing was recorded for.
  void backward();
  void backward(const Tensor& seed);

  // Called once by each backward pass that reaches this leaf, as soon as its gradient of that pass is complete: after the last
  // operation that uses it, or at the end of the pass when other recorded operations, which this pass does not reach, use it
  // too. A leaf has one hook; an empty function removes it.
  void set_gradient_ready_hook(std::function<void()> hook);

  // The same tensor as a leaf without gradient.
  Variable detach() const;

  const std::shared_ptr<VariableState>& state() const { return state_; }  // for the tape

 private:
  std::shared_ptr<VariableState> state_;
};

}  // namespace echo
