#pragma once

#include "autograd/backward_function.h"
#include "autograd/variable.h"

// What a recorded graph consists of. Only the files of the tape read this. node.cpp also has the members of Variable.
namespace echo {

// How the outputs of one operation were made. Its outputs own it, and it holds its inputs, never an output. Of an input that
// an operation made it holds only the way back, not the tensor: the backward function has saved what it needs.
struct Node {
  ~Node();

  const char* operation = "";
  uint64_t sequence = 0;  // order of recording: every input was made by a node with a smaller number
  std::vector<Variable> inputs;
  std::vector<Shape> output_shapes;
  std::vector<DType> output_dtypes;
  std::vector<Tensor> output_gradients;  // filled during a backward pass
  BackwardOfMany backward;
  RunBackward when = RunBackward::with_gradient;
  bool done = false, queued = false;

  void release_inputs();
};

// What all copies of one variable share.
struct VariableState {
  ~VariableState();

  Tensor data, gradient;
  bool gradient_has_storage = false;  // see Variable::set_gradient_storage
  Tensor compute_copy;                // the data in another dtype; see Variable::keep_compute_copy
  bool requires_gradient = false;
  std::shared_ptr<Node> node;  // none for a leaf
  size_t output_index = 0;
  int64_t open_uses = 0;  // recorded operations that have not yet given a leaf its gradient
  std::function<void()> ready_hook;
  bool hook_pending = false;  // the running backward pass has reached this leaf and not yet called its hook

  // The way back from an operation's output.
  std::shared_ptr<VariableState> without_data() const;
  // Leaves. Adds to the accumulated gradient; takes over the tensor where that saves a copy.
  void add_gradient(Tensor more);
};

}  // namespace echo
