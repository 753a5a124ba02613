#include "autograd/recompute.h"

#include "autograd/no_grad.h"
#include "autograd/tape.h"
#include "autograd/used_leaves.h"
#include "kernels/cast.h"

namespace echo {

std::vector<Variable> with_recompute(const Block& block, const std::vector<Variable>& inputs) {
  if (NoGrad::is_active()) return block(inputs);
  std::vector<Tensor> results;
  // The parameters of the block become inputs of the node. So it is recorded even if no other input requires a gradient, and
  // their gradient-ready hooks wait for it.
  std::vector<Variable> recorded_inputs = inputs;
  {
    const NoGrad no_grad;
    const UsedLeaves used;
    for (const Variable& output : block(inputs)) results.push_back(output.data());
    recorded_inputs.insert(recorded_inputs.end(), used.leaves().begin(), used.leaves().end());
  }
  std::vector<Tensor> saved;
  std::vector<bool> needed;
  for (const Variable& input : inputs) {
    saved.push_back(input.data());
    needed.push_back(input.requires_gradient());
  }
  return record_many("with_recompute", recorded_inputs, results,
                     [block, saved, needed, count = recorded_inputs.size()](const std::vector<Tensor>& output_gradients) {
                       const Recording recording;
                       std::vector<Variable> fresh;
                       for (size_t i = 0; i < saved.size(); ++i) fresh.emplace_back(saved[i], needed[i]);
                       std::vector<std::pair<Variable, Tensor>> roots;
                       {
                         const std::vector<Variable> outputs = block(fresh);
                         for (size_t i = 0; i < outputs.size(); ++i)
                           if (output_gradients[i].defined() && outputs[i].requires_gradient())
                             roots.emplace_back(outputs[i], output_gradients[i]);
                       }
                       backward(std::move(roots));
                       Gradients gradients(count);
                       for (size_t i = 0; i < saved.size(); ++i)
                         if (needed[i] && fresh[i].gradient().defined())
                           gradients[i] = kernels::cast(fresh[i].gradient(), saved[i].dtype());
                       return gradients;
                     });
}

}  // namespace echo
