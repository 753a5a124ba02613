#include "nn/weight_names.h"

#include "base/error.h"
#include "nn/model_families.h"

namespace echo {

std::string layer_weight(int64_t layer, std::string_view part) { return concat("model.layers.", layer, ".", part, ".weight"); }

std::vector<WeightShape> weight_shapes(const LlamaConfig& config, const LeaderMap& leader_map) {
  ECHO_CHECK(leader_map.layers() == config.num_hidden_layers, "weight_shapes: a leader map of ", leader_map.layers(),
             " layers for a model of ", config.num_hidden_layers);
  return model_family(config.family).weight_shapes(config, leader_map);
}

int64_t parameter_count(const LlamaConfig& config, const LeaderMap& leader_map) {
  int64_t count = 0;
  for (const WeightShape& weight : weight_shapes(config, leader_map)) count += weight.shape.elements();
  return count;
}

}  // namespace echo
