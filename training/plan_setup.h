#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "nn/leader_map.h"
#include "nn/model_config.h"
#include "tensor/device.h"
#include "training/resolved_inputs.h"

namespace echo {

struct PlannedMap {
  LeaderMap leader_map;
  std::vector<std::string> remarks;  // how the map was made, and warnings, one per line
};

// The leader map from student.leader_map, or otherwise from student.plan.
//   inputs: if the plan needs a similarity matrix, it is read from inputs.analysis, or else inputs.start is analysed on
//   inputs.data.
//   model: the shape. stored: the map of the start weights, used when neither setting gives one.
//   progress(done, total) is called during an analysis, which runs on `device`.
// Throws Error (config) when the map does not fit the model, or when the plan needs weights and there are none.
PlannedMap plan_leader_map(const TrainConfig& train, const ResolvedInputs& inputs, const LlamaConfig& model,
                           const LeaderMap& stored, const std::function<void(int64_t, int64_t)>& progress, Device device);

}  // namespace echo
