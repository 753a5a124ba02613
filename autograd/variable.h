#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/gradient_mode.h"
#include "tensor/tensor.h"

namespace echo {

struct Node;

// What a backward function returns: one tensor an input, undefined where an input needs none (or has it already,
// GradientTarget). A returned tensor has its input's shape and dtype, or the accumulator dtype for a leaf.
using Gradients = std::vector<Tensor>;

// For an operation with one output: gets the gradient of the output. Captures tensors by value, never the output variable.
using Backward = std::function<Gradients(const Tensor& output_gradient)>;
// For several outputs: a gradient is undefined where nothing depended on that output.
using BackwardOfMany = std::function<Gradients(const std::vector<Tensor>& output_gradients)>;

// When the gradients of a node's outputs are all undefined it is passed over, unless it `always` runs: a leader of shared
// attention has work that its followers left, even if nothing else used its own output.
enum class RunBackward { with_gradient, always };

// A tensor that remembers how it was made. Copies are the same variable. Reverse-mode automatic differentiation over a tape
// that is recorded while the program runs: operations (autograd/ops.h) make variables, backward() walks the tape back.
//
//   Variable w(Tensor::from<float>({1, 2, 3}), /*requires_gradient=*/true);
//   sum(square(w)).backward();
//   w.gradient();  // 2, 4, 6
//
// A leaf (made from a tensor) that requires a gradient accumulates it in f32 (f64 for f64) over backward passes. When a
// backward function throws, the pass ends: its graph is given up, and gradients of leaves are incomplete until they are
// cleared. A graph belongs to one thread at a time.
class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor data, bool requires_gradient = false);

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

  // Leaves: the accumulated gradient; undefined before the first backward pass and after clear_gradient().
  const Tensor& gradient() const;
  void clear_gradient();

  // Adds the gradient of this one-element variable (or of sum(seed * this)) to every leaf that it was computed from. What the
  // operations saved is freed on the way, so a second call throws Error; so does a variable that nothing was recorded for.
  void backward();
  void backward(const Tensor& seed);

  // Called once by each backward pass that reaches this leaf, as soon as its gradient of that pass is complete: after the last
  // operation that uses it, or at the end of the pass when other recorded operations, which this pass does not reach, use it
  // too. One hook a leaf; an empty function removes it.
  void set_gradient_ready_hook(std::function<void()> hook);

  // The same tensor as a leaf without gradient.
  Variable detach() const;

 private:
  friend struct Node;
  friend class Tape;
  friend class GradientTarget;
  friend class UsedLeaves;
  friend std::vector<Variable> record_many(const char*, std::vector<Variable>, std::vector<Tensor>, BackwardOfMany,
                                           RunBackward);
  struct State;
  std::shared_ptr<State> state_;
};

// One backward pass from several variables at once, each with the gradient that reaches it from outside the tape.
void backward(std::vector<std::pair<Variable, Tensor>> roots);

// Makes the output of an operation. Nothing is recorded under NoGrad, or when no input requires a gradient.
Variable record(const char* operation, std::vector<Variable> inputs, Tensor output, Backward backward);

// The same for several outputs.
std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when = RunBackward::with_gradient);

// Collects the leaves with gradient that operations of this thread use while it lives, under NoGrad too: what a block that is
// recomputed later depends on beside its inputs.
class UsedLeaves {
 public:
  UsedLeaves() : previous_(current_) { current_ = this; }
  ~UsedLeaves() { current_ = previous_; }
  UsedLeaves(const UsedLeaves&) = delete;
  UsedLeaves& operator=(const UsedLeaves&) = delete;
  const std::vector<Variable>& leaves() const { return leaves_; }

 private:
  friend std::vector<Variable> record_many(const char*, std::vector<Variable>, std::vector<Tensor>, BackwardOfMany,
                                           RunBackward);
  void add(const Variable& leaf);

  static inline thread_local UsedLeaves* current_ = nullptr;
  UsedLeaves* previous_;
  std::vector<Variable> leaves_;
};

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
