#include "autograd/variable.h"

#include <algorithm>
#include <atomic>
#include <queue>

#include "autograd/no_grad.h"
#include "kernels/cast.h"
#include "kernels/elementwise.h"
#include "tensor/allocator.h"

namespace echo {

// How the outputs of one operation were made. Owned by its outputs; holds its inputs, never an output. Of an input that an
// operation made it holds only the way back, not the tensor: what the backward function needs it has saved itself.
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

struct Variable::State {
  ~State();

  Tensor data, gradient;
  Tensor compute_copy;  // the data in another dtype; see keep_compute_copy
  bool requires_gradient = false;
  std::shared_ptr<Node> node;  // none for a leaf
  size_t output_index = 0;
  int64_t open_uses = 0;  // recorded operations that have not yet given a leaf its gradient
  std::function<void()> ready_hook;
  bool hook_pending = false;  // the running backward pass has reached this leaf and not yet called its hook

  // The way back from an operation's output.
  std::shared_ptr<State> without_data() const {
    auto result = std::make_shared<State>();
    result->requires_gradient = requires_gradient;
    result->node = node;
    result->output_index = output_index;
    return result;
  }
};

namespace {

// One count for all threads: a graph may be built by several, one after the other.
uint64_t next_sequence() {
  static std::atomic<uint64_t> sequence = 0;
  return sequence.fetch_add(1, std::memory_order_relaxed) + 1;
}

// Drops nodes one after the other: by default each destructor would run inside the next one's, and a long chain overflow the
// stack. The list lives in the outermost call: variables in static storage outlast the thread's own objects.
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
    if (input.is_leaf() && !done) --input.state_->open_uses;
  done = true;
  inputs.clear();
}

Variable::State::~State() {
  if (node != nullptr) release(std::move(node));
}

Variable::Variable(Tensor data, bool requires_gradient) : state_(std::make_shared<State>()) {
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
  ECHO_CHECK(is_leaf(), "keep_compute_copy: only leaves keep one");
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
  state_->gradient = Tensor();
}

void Variable::set_gradient_ready_hook(std::function<void()> hook) {
  ECHO_CHECK(is_leaf() && requires_gradient(), "gradient-ready hook: only for leaves that require a gradient");
  state_->ready_hook = std::move(hook);
}

Variable Variable::detach() const { return Variable(data()); }

void Variable::backward() {
  ECHO_CHECK(data().elements() == 1, "backward: variable ", shape(), " has ", data().elements(),
             " elements; give a seed for its gradient");
  backward(Tensor::full(shape(), 1.0, dtype(), data().device()));
}

// One backward pass. Nodes run from the last recorded to the first, so each runs after everything that depends on it.
class Tape {
 public:
  Tape() : is_outermost_(depth_ == 0) { ++depth_; }
  ~Tape() {
    --depth_;
    // After an exception: what was not run is given up.
    for (; !queue_.empty(); queue_.pop()) discard(*queue_.top());
    for (Variable& leaf : reached_) leaf.state_->hook_pending = false;
  }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  void add(const Variable& variable, Tensor gradient) {
    if (!variable.requires_gradient()) return;
    Variable::State& state = *variable.state_;
    if (state.node == nullptr) {
      expect_hook(variable);
      if (gradient.defined()) add_to_leaf(state, std::move(gradient));
      return;
    }
    Node& node = *state.node;
    ECHO_CHECK(!node.done, "backward: ", node.operation,
               " was already passed: what it saved is freed; run the forward pass again");
    if (gradient.defined()) {
      ECHO_CHECK(gradient.shape() == node.output_shapes[state.output_index] &&
                     gradient.dtype() == node.output_dtypes[state.output_index],
                 "backward: gradient ", gradient, " for an output of ", node.operation, " that is ",
                 node.output_dtypes[state.output_index], " ", node.output_shapes[state.output_index]);
      accumulate(node.output_gradients[state.output_index], gradient.contiguous());
    }
    if (!node.queued) {
      node.queued = true;
      queue_.push(state.node);
    }
  }

  void run() {
    while (!queue_.empty()) {
      const std::shared_ptr<Node> node = queue_.top();
      queue_.pop();
      run_node(*node);
    }
    // Leaves that another recorded pass uses too: this pass has nothing more for them.
    for (Variable& leaf : reached_) call_hook(*leaf.state_);
  }

 private:
  struct Earlier {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const { return a->sequence < b->sequence; }
  };

  // The inputs of a node that runs. Leaves that are left when it ends early, by an exception, are counted down all the same.
  struct Inputs {
    explicit Inputs(std::vector<Variable> inputs) : variables(std::move(inputs)) {}
    ~Inputs() {
      for (; next < variables.size(); ++next) close_use(variables[next]);
    }
    Inputs(const Inputs&) = delete;
    Inputs& operator=(const Inputs&) = delete;
    std::vector<Variable> variables;
    size_t next = 0;
  };

  static void discard(Node& node) {
    node.release_inputs();
    node.backward = nullptr;
    node.output_gradients.clear();
  }

  // Whether this was the last use of a leaf.
  static bool close_use(const Variable& input) { return input.is_leaf() && --input.state_->open_uses == 0; }

  // Only the outermost pass calls hooks: a recomputed block's own pass runs inside a node that uses the same leaves.
  void expect_hook(const Variable& leaf) {
    Variable::State& state = *leaf.state_;
    if (!is_outermost_ || state.hook_pending || !state.ready_hook) return;
    state.hook_pending = true;
    reached_.push_back(leaf);
  }

  static void call_hook(Variable::State& state) {
    if (!state.hook_pending) return;
    state.hook_pending = false;
    if (state.ready_hook) state.ready_hook();
  }

  void run_node(Node& node) {
    // Everything moves out first: saved tensors are freed as soon as their node has run.
    BackwardOfMany function = std::move(node.backward);
    node.backward = nullptr;
    std::vector<Tensor> output_gradients = std::move(node.output_gradients);
    Inputs inputs(std::move(node.inputs));
    node.inputs.clear();
    node.done = true;
    const bool any = std::any_of(output_gradients.begin(), output_gradients.end(),
                                 [](const Tensor& gradient) { return gradient.defined(); });
    Gradients gradients(inputs.variables.size());
    if (any || node.when == RunBackward::always) {
      gradients = function(output_gradients);
      ECHO_CHECK(gradients.size() == inputs.variables.size(), "backward: ", node.operation, " returned ", gradients.size(),
                 " gradients for ", inputs.variables.size(), " inputs");
    }
    function = nullptr;
    output_gradients.clear();
    while (inputs.next < inputs.variables.size()) {
      const Variable& input = inputs.variables[inputs.next];
      add(input, std::move(gradients[inputs.next]));
      ++inputs.next;
      if (close_use(input) && is_outermost_) call_hook(*input.state_);
    }
  }

  static void accumulate(Tensor& sum, Tensor gradient) {
    if (!sum.defined()) {
      sum = std::move(gradient);
    } else if (sum.is_sole_owner() && sum.is_contiguous()) {
      kernels::add_scaled(sum, gradient, 1.0);
    } else {
      Tensor total = sum.clone();
      kernels::add_scaled(total, gradient, 1.0);
      sum = std::move(total);
    }
  }

  static void add_to_leaf(Variable::State& state, Tensor gradient) {
    ECHO_CHECK(gradient.shape() == state.data.shape(), "backward: gradient ", gradient, " for a leaf ", state.data);
    const DType dtype = accumulator_dtype(state.data.dtype());
    if (state.gradient.defined()) {
      kernels::add_scaled(state.gradient, gradient.contiguous(), 1.0);
    } else if (gradient.dtype() == dtype && gradient.is_sole_owner() && gradient.is_contiguous()) {
      state.gradient = std::move(gradient);
    } else {
      const Tensor source = gradient.contiguous();
      const MemoryLabel label("gradients");
      state.gradient = Tensor::empty(source.shape(), dtype, source.device());
      kernels::cast(state.gradient, source);
    }
  }

  static inline thread_local int depth_ = 0;  // passes inside passes: recomputed blocks
  const bool is_outermost_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Earlier> queue_;
  std::vector<Variable> reached_;  // leaves with a hook
};

void Variable::backward(const Tensor& seed) { echo::backward({{*this, seed}}); }

void backward(std::vector<std::pair<Variable, Tensor>> roots) {
  Tape tape;
  for (auto& [variable, gradient] : roots) {
    ECHO_CHECK(variable.requires_gradient(),
               "backward: nothing was recorded for this variable (made under NoGrad, or no input requires a gradient)");
    tape.add(variable, std::move(gradient));
  }
  roots.clear();
  tape.run();
}

std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when) {
  std::vector<Variable> variables;
  variables.reserve(outputs.size());
  for (Tensor& output : outputs) variables.emplace_back(std::move(output));
  if (UsedLeaves* const observer = UsedLeaves::current_; observer != nullptr)
    for (const Variable& input : inputs)
      if (input.is_leaf() && input.requires_gradient()) observer->add(input);
  const bool needed = !NoGrad::is_active() && std::any_of(inputs.begin(), inputs.end(),
                                                          [](const Variable& input) { return input.requires_gradient(); });
  if (!needed) return variables;
  auto node = std::make_shared<Node>();
  node->operation = operation;
  node->sequence = next_sequence();
  node->inputs = std::move(inputs);
  node->backward = std::move(backward);
  node->when = when;
  node->output_gradients.resize(variables.size());
  for (Variable& input : node->inputs) {
    if (!input.is_leaf()) input.state_ = input.state_->without_data();
    if (input.is_leaf()) ++input.state_->open_uses;
  }
  for (size_t i = 0; i < variables.size(); ++i) {
    Variable::State& state = *variables[i].state_;
    node->output_shapes.push_back(state.data.shape());
    node->output_dtypes.push_back(state.data.dtype());
    state.requires_gradient = true;
    state.node = node;
    state.output_index = i;
  }
  return variables;
}

Variable record(const char* operation, std::vector<Variable> inputs, Tensor output, Backward backward) {
  return record_many(
      operation, std::move(inputs), {std::move(output)},
      [backward = std::move(backward)](const std::vector<Tensor>& gradients) { return backward(gradients[0]); })[0];
}

void UsedLeaves::add(const Variable& leaf) {
  const auto same = [&](const Variable& other) { return other.state_ == leaf.state_; };
  if (std::none_of(leaves_.begin(), leaves_.end(), same)) leaves_.push_back(leaf);
}

GradientTarget::GradientTarget(const Variable& input) : input_dtype_(input.dtype()) {
  const DType dtype = accumulator_dtype(input.dtype());
  if (!input.is_leaf()) {
    tensor_ = Tensor::empty(input.shape(), dtype, input.data().device());
    return;
  }
  in_place_ = true;
  Tensor& gradient = input.state_->gradient;
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
