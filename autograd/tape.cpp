#include "autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <queue>

#include "autograd/gradient_hooks.h"
#include "autograd/no_grad.h"
#include "autograd/node.h"
#include "autograd/used_leaves.h"
#include "kernels/elementwise.h"

namespace echo {
namespace {

// One counter for all threads, because several threads may build a graph one after the other.
uint64_t next_sequence() {
  static std::atomic<uint64_t> sequence = 0;
  return sequence.fetch_add(1, std::memory_order_relaxed) + 1;
}

// The inputs of a node that runs. The destructor also counts down the leaves that an exception left unprocessed.
struct Inputs {
  explicit Inputs(std::vector<Variable> inputs) : variables(std::move(inputs)) {}
  ~Inputs() {
    for (; next < variables.size(); ++next) GradientHooks::count_down(variables[next]);
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;
  std::vector<Variable> variables;
  size_t next = 0;
};

void accumulate(Tensor& sum, Tensor gradient) {
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

// One backward pass. Nodes run from the last recorded to the first, so each runs after everything that depends on it.
class BackwardPass {
 public:
  BackwardPass() = default;
  // After an exception, drops the nodes that have not run.
  ~BackwardPass() {
    for (; !queue_.empty(); queue_.pop()) discard(*queue_.top());
  }
  BackwardPass(const BackwardPass&) = delete;
  BackwardPass& operator=(const BackwardPass&) = delete;

  void add(const Variable& variable, Tensor gradient) {
    if (!variable.requires_gradient()) return;
    VariableState& state = *variable.state();
    if (state.node == nullptr) {
      hooks_.expect(variable);
      if (gradient.defined()) state.add_gradient(std::move(gradient));
      return;
    }
    Node& node = *state.node;
    ECHO_CHECK(!node.done, "backward: ", node.operation,
               " has already run in a backward pass, which freed what it saved; run the forward pass again");
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
    hooks_.call_complete();
    while (!queue_.empty()) {
      const std::shared_ptr<Node> node = queue_.top();
      queue_.pop();
      run_node(*node);
    }
    hooks_.call_remaining();
  }

 private:
  struct Earlier {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const { return a->sequence < b->sequence; }
  };

  static void discard(Node& node) {
    node.release_inputs();
    node.backward = nullptr;
    node.output_gradients.clear();
  }

  void run_node(Node& node) {
    // Everything is moved out first, so that saved tensors are freed as soon as their node has run.
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
      hooks_.close_use(input);
    }
  }

  GradientHooks hooks_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Earlier> queue_;
};

}  // namespace

void backward(std::vector<std::pair<Variable, Tensor>> roots) {
  BackwardPass pass;
  for (auto& [variable, gradient] : roots) {
    ECHO_CHECK(variable.requires_gradient(),
               "backward: nothing was recorded for this variable (made under NoGrad, or no input requires a gradient)");
    pass.add(variable, std::move(gradient));
  }
  roots.clear();
  pass.run();
}

std::vector<Variable> record_many(const char* operation, std::vector<Variable> inputs, std::vector<Tensor> outputs,
                                  BackwardOfMany backward, RunBackward when) {
  std::vector<Variable> variables;
  variables.reserve(outputs.size());
  for (Tensor& output : outputs) variables.emplace_back(std::move(output));
  UsedLeaves::note(inputs);
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
    if (!input.is_leaf()) input = Variable(input.state()->without_data());
    if (input.is_leaf()) ++input.state()->open_uses;
  }
  for (size_t i = 0; i < variables.size(); ++i) {
    VariableState& state = *variables[i].state();
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

void Variable::backward() {
  ECHO_CHECK(data().elements() == 1, "backward: variable ", shape(), " has ", data().elements(),
             " elements, expected 1; pass a seed for its gradient");
  backward(Tensor::full(shape(), 1.0, dtype(), data().device()));
}

void Variable::backward(const Tensor& seed) { echo::backward({{*this, seed}}); }

}  // namespace echo
