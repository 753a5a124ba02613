#include "training/rank_reduction.h"

namespace echo {
namespace {

template <class Function>
void for_each_member(LossSums& sums, const Function& function) {
  kernels::DistillationTerms::visit([&](const kernels::LossTerm&, auto member) { function(sums.head.*member); });
  kernels::HiddenError::visit([&](const kernels::LossTerm&, auto member) { function(sums.hidden.*member); });
  function(sums.loss);
  function(sums.tokens);
}

}  // namespace

void broadcast_parameters(Communicator& communicator, Module& module) {
  for (Parameter* parameter : module.parameters()) communicator.broadcast(parameter->variable.data());
}

LossSums sum_over_ranks(Communicator& communicator, LossSums sums) {
  if (communicator.world() == 1) return sums;
  std::vector<double> values;
  for_each_member(sums, [&](auto& member) { values.push_back(double(member)); });
  Tensor total = Tensor::from(values);
  communicator.all_reduce_sum(total);
  values = total.to_vector<double>();
  size_t next = 0;
  for_each_member(sums, [&]<class T>(T& member) { member = T(values[next++]); });
  return sums;
}

}  // namespace echo
