#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "nn/leader_map.h"
#include "nn/model_config.h"

namespace echo {

// What a run will hold in tensors at its peak, from the shapes alone.
struct MemoryPlan {
  struct Part {
    std::string name;
    int64_t bytes;
  };
  std::vector<Part> parts;  // of the peak: what is not there at that moment is not listed
  int64_t peak = 0;         // bytes
};

// What the plan needs to know of the models.
struct PlannedModels {
  LlamaConfig student;
  LeaderMap leader_map;
  int64_t teacher_bytes = 0;            // of its weights as they are held; 0 without teacher
  bool teacher_matches_compute = true;  // its weights have the compute dtype: no product casts them
};

// The peak of a training step after the first (the optimizer's moments exist from then on). On the CPU the caching allocator
// rounds sizes up by at most an eighth, which is not counted.
MemoryPlan plan_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu);

// The plan as text: a line of parts; and when `available` bytes (negative: unknown) are not enough, three settings, or
// combinations of them, each of which would make it fit (fewer where there are no more); or else the combination that needs
// least.
std::string describe_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t available);

}  // namespace echo
