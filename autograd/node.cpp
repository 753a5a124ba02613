#include "autograd/node.h"

#include "kernels/cast.h"
#include "kernels/elementwise.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

// Drops nodes one after the other. By default each destructor would run inside the next one's, and a long chain would overflow
// the stack. The list lives in the outermost call because variables in static storage outlast the thread's own objects.
void release(std::shared_ptr<Node> node) {
  thread_local std::vector<std::shared_ptr<Node>>* outermost = nullptr;
  if (outermost != nullptr) {
    outermost->push_back(std::move(node));
    return;
  }
  std::vector<std::shared_ptr<Node>> waiting;
  outermost = &waiting;
  while (node != nullptr) {
    node.reset();
    if (waiting.empty()) break;
    node = std::move(waiting.back());
    waiting.pop_back();
  }
  outermost = nullptr;
}

}  // namespace

Node::~Node() { release_inputs(); }

void Node::release_inputs() {
  for (Variable& input : inputs)
    if (input.is_leaf() && !done) --input.state()->open_uses;
  done = true;
  inputs.clear();
}

VariableState::~VariableState() {
  if (node != nullptr) release(std::move(node));
}

std::shared_ptr<VariableState> VariableState::without_data() const {
  auto result = std::make_shared<VariableState>();
  result->requires_gradient = requires_gradient;
  result->node = node;
  result->output_index = output_index;
  return result;
}

void VariableState::add_gradient(Tensor more) {
  ECHO_CHECK(more.shape() == data.shape(), "backward: gradient ", more, " for a leaf ", data);
  const DType dtype = accumulator_dtype(data.dtype());
  if (gradient.defined()) {
    kernels::add_scaled(gradient, more.contiguous(), 1.0);
  } else if (more.dtype() == dtype && more.is_sole_owner() && more.is_contiguous()) {
    gradient = std::move(more);
  } else {
    const Tensor source = more.contiguous();
    const MemoryLabel label("gradients");
    gradient = Tensor::empty(source.shape(), dtype, source.device());
    kernels::cast(gradient, source);
  }
}

}  // namespace echo
