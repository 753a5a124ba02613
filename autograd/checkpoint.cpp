#include "autograd/checkpoint.h"

#include "autograd/no_grad.h"

namespace echo {

std::vector<Variable> checkpoint(const Block& block, const std::vector<Variable>& inputs) {
  if (NoGrad::is_active()) return block(inputs);
  std::vector<Tensor> results;
  {
    const NoGrad no_grad;
    for (const Variable& output : block(inputs)) results.push_back(output.data());
  }
  std::vector<Tensor> saved;
  std::vector<bool> needed;
  for (const Variable& input : inputs) {
    saved.push_back(input.data());
    needed.push_back(input.requires_gradient());
  }
  // The block's parameters are not among the inputs, so the node is recorded even when no input requires a gradient.
  std::vector<Variable> recorded_inputs = inputs;
  recorded_inputs.push_back(Variable(Tensor::zeros({1}, DType::f32), /*requires_gradient=*/true));
  return record_many("checkpoint", recorded_inputs, results,
                     [block, saved, needed](const std::vector<Tensor>& output_gradients) -> Gradients {
    const Recording recording;
    std::vector<Variable> fresh;
    for (size_t i = 0; i < saved.size(); ++i) fresh.emplace_back(saved[i], needed[i]);
    const std::vector<Variable> outputs = block(fresh);
    std::vector<std::pair<Variable, Tensor>> roots;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (output_gradients[i].defined() && outputs[i].requires_gradient() && !outputs[i].is_leaf())
        roots.emplace_back(outputs[i], output_gradients[i]);
    backward(std::move(roots));
    Gradients gradients(saved.size() + 1);
    for (size_t i = 0; i < saved.size(); ++i)
      if (needed[i]) gradients[i] = fresh[i].gradient();
    return gradients;
  });
}

}  // namespace echo
