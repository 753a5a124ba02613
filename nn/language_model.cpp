#include "nn/language_model.h"

#include "autograd/no_grad.h"
#include "autograd/ops.h"

namespace echo {

LanguageModel::LanguageModel(const LlamaConfig& config, LeaderMap leader_map)
    : config_(config), leader_map_(std::move(leader_map)) {
  ECHO_CHECK(leader_map_.layers() == config.num_hidden_layers, "language model: a leader map of ", leader_map_.layers(),
             " layers for a model of ", config.num_hidden_layers);
}

Tensor LanguageModel::logits(const Tensor& hidden) const {
  const NoGrad no_grad;
  return linear(Variable(hidden), head_weight()).data();
}

}  // namespace echo
