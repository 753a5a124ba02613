#pragma once

#include "autograd/backward_function.h"
#include "autograd/variable.h"

// The data structures of a recorded graph. Only the tape's own files include this header. node.cpp also defines members of
// Variable.
namespace echo {

// One recorded operation. Its outputs own it. It holds its inputs, but never an output. Of an input that is itself the output
// of an operation, it holds only the graph and not the tensor, because the backward function has saved what it needs.
struct Node {
  ~Node();

  const char* operation = "";
  uint64_t sequence = 0;  // order of recording: each input comes from a node with a smaller number
  std::vector<Variable> inputs;
  std::vector<Shape> output_shapes;
  std::vector<DType> output_dtypes;
  std::vector<Tensor> output_gradients;  // filled during a backward pass
  BackwardOfMany backward;
  RunBackward when = RunBackward::with_gradient;
  bool done = false, queued = false;

  void release_inputs();
};

// The state that all copies of one variable share.
struct VariableState {
  ~VariableState();

  Tensor data, gradient;
  bool gradient_has_storage = false;  // see Variable::set_gradient_storage
  Tensor compute_copy;                // the data in another dtype; see Variable::keep_compute_copy
  bool requires_gradient = false;
  std::shared_ptr<Node> node;  // null for a leaf
  size_t output_index = 0;
  int64_t open_uses = 0;  // of a leaf: recorded operations that have not yet contributed to its gradient
  std::function<void()> ready_hook;
  bool hook_pending = false;  // the running backward pass has reached this leaf and not yet called its hook

  // This state without its data. It is enough for the backward pass to reach the node.
  std::shared_ptr<VariableState> without_data() const;
  // Leaves only. Adds `more` to the accumulated gradient, or moves it there when that saves a copy.
  void add_gradient(Tensor more);
};

}  // namespace echo
