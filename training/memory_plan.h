#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/train_config.h"
#include "nn/leader_map.h"
#include "nn/model_config.h"

namespace echo {

// The memory of a run's tensors at its peak, computed from shapes alone.
struct MemoryPlan {
  struct Part {
    std::string name;
    int64_t bytes;
  };
  std::vector<Part> parts;  // at the moment of the peak; parts that do not exist then are not listed
  int64_t peak = 0;         // bytes
};

// The properties of the models that the plan needs.
struct PlannedModels {
  LlamaConfig student;
  LeaderMap leader_map;
  int64_t teacher_bytes = 0;            // of its weights in memory; 0 without a teacher
  int64_t teacher_layer_bytes = 0;      // the part of it in matrices of layers, which shard_teacher divides
  bool teacher_matches_compute = true;  // its weights have the compute dtype, so products do not cast them
  int64_t world = 1;                    // number of ranks
};

// The elements of the matrices in the layers of a model.
int64_t layer_matrix_elements(const LlamaConfig& config, const LeaderMap& leader_map);

// The peak on one rank of a training step after the first one (from then on the optimizer's moments exist). On the CPU the
// caching allocator rounds sizes up by at most an eighth, which is not included.
MemoryPlan plan_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu);

// Whether checkpoints are written from a copy of weights and moments while training goes on, by config.async_save. With `auto`
// they are if the copy fits into `main_memory` (bytes; negative: unknown), on a CPU beside the rest of the run.
bool saves_in_background(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t main_memory);

// Bytes of that copy. It is in main memory, so plan_memory() counts it only on a CPU, and only if config.async_save is `true`.
int64_t save_copy_bytes(const TrainConfig& config, const PlannedModels& models);

// The plan as text: a line of parts. If `available` bytes (negative: unknown) are not enough, it adds three settings, or
// combinations of them, each of which would make the run fit (fewer if there are no more), or else the combination that needs
// the least memory.
std::string describe_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t available);

}  // namespace echo
