#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "nn/leader_map.h"
#include "nn/model_config.h"
#include "tensor/device.h"

namespace echo {

struct PlannedMap {
  LeaderMap leader_map;
  std::vector<std::string> remarks;  // how it came about, and warnings, a line each
};

// Who shares with whom, from student.leader_map or else student.plan.
//   config: the shape of the model; stored: the map of the start weights, used when neither setting asks for another.
//   model_folder: the start weights, analysed on data.path when the plan needs a similarity matrix and plan.analysis is empty;
//   empty when there are none (pretrain). progress(done, total) is called during that analysis, which runs on `device`.
// Throws Error (config) when the map does not fit the model, or a plan is asked for that needs weights and there are none.
PlannedMap plan_leader_map(const TrainConfig& train, const LlamaConfig& config, const LeaderMap& stored,
                           const std::filesystem::path& model_folder, const std::function<void(int64_t, int64_t)>& progress,
                           Device device);

}  // namespace echo
