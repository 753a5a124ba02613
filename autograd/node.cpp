#include "autograd/node.h"

#include "kernels/cast.h"
#include "kernels/elementwise.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

// Frees nodes in a loop. Without it each destructor would run inside the previous one, and a long chain would overflow the
// stack.
// The list is a local variable of the outermost call, because variables in static storage outlive thread_local objects.
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
  ECHO_CHECK(more.shape() == data.shape(), "backward: gradient ", more, " for a leaf ", data, ", expected the leaf's shape");
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

Variable::Variable(Tensor data, bool requires_gradient) : state_(std::make_shared<VariableState>()) {
  ECHO_CHECK(data.defined(), "variable: the tensor is undefined");
  ECHO_CHECK(!requires_gradient || is_float(data.dtype()), "variable: ", data.dtype(), " cannot have a gradient");
  state_->data = std::move(data);
  state_->requires_gradient = requires_gradient;
}

const Tensor& Variable::data() const {
  ECHO_CHECK(defined(), "variable: an undefined variable was used");
  return state_->data;
}

Tensor& Variable::data() {
  ECHO_CHECK(defined(), "variable: an undefined variable was used");
  return state_->data;
}

bool Variable::requires_gradient() const { return defined() && state_->requires_gradient; }
bool Variable::is_leaf() const { return defined() && state_->node == nullptr; }

Tensor Variable::data_as(DType dtype) const {
  const Tensor& own = data();
  if (own.dtype() == dtype) return own;
  return state_->compute_copy.defined() && state_->compute_copy.dtype() == dtype ? state_->compute_copy
                                                                                 : kernels::cast(own, dtype);
}

void Variable::keep_compute_copy(DType dtype) {
  ECHO_CHECK(is_leaf(), "keep_compute_copy: only leaves can have a compute copy");
  state_->compute_copy = data().dtype() == dtype ? Tensor() : kernels::cast(data(), dtype);
}

const Tensor& Variable::compute_copy() const {
  ECHO_CHECK(defined(), "variable: an undefined variable was used");
  return state_->compute_copy;
}

const Tensor& Variable::gradient() const {
  ECHO_CHECK(is_leaf(), "gradient: only leaves keep their gradient");
  return state_->gradient;
}

void Variable::clear_gradient() {
  ECHO_CHECK(is_leaf(), "clear_gradient: only leaves keep their gradient");
  if (state_->gradient_has_storage)
    state_->gradient.fill_zero();
  else
    state_->gradient = Tensor();
}

void Variable::set_gradient_storage(Tensor storage) {
  ECHO_CHECK(is_leaf() && requires_gradient(), "gradient storage: only for leaves that require a gradient");
  if (storage.defined()) {
    const DType dtype = accumulator_dtype(state_->data.dtype());
    ECHO_CHECK(storage.shape() == shape() && storage.dtype() == dtype && storage.device() == data().device() &&
                   storage.is_contiguous(),
               "gradient storage: ", storage, " on ", storage.device(), ", expected contiguous ", dtype, " ", shape(), " on ",
               data().device());
    storage.fill_zero();
  }
  state_->gradient_has_storage = storage.defined();
  state_->gradient = std::move(storage);
}

void Variable::set_gradient_ready_hook(std::function<void()> hook) {
  ECHO_CHECK(is_leaf() && requires_gradient(), "gradient-ready hook: only for leaves that require a gradient");
  state_->ready_hook = std::move(hook);
}

Variable Variable::detach() const { return Variable(data()); }

}  // namespace echo
