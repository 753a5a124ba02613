#pragma once

#include <cstring>

#include "base/random.h"
#include "communication/host_communicator.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "training/distillation.h"
#include "training/layer_shards.h"
#include "training/memory_plan.h"
#include "training/optimizer.h"
#include "training/precision.h"

namespace echo {

// Sizes for which the CPU's allocator hardly rounds up.
inline LlamaConfig medium_model() {
  LlamaConfig config;
  config.vocab_size = 1024;
  config.hidden_size = 128;
  config.intermediate_size = 352;
  config.num_hidden_layers = 6;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  return config;
}

inline Batch random_batch(const TrainConfig& config, int64_t vocabulary) {
  Batch batch;
  batch.rows = config.per_device_train_batch_size;
  batch.sequence_length = config.data.sequence_length;
  batch.valid_tokens = batch.rows * batch.sequence_length;
  RandomSequence random(3);
  for (int64_t i = 0; i < batch.valid_tokens; ++i) {
    batch.inputs.push_back(int32_t(random.below(uint64_t(vocabulary))));
    batch.labels.push_back(int32_t(random.below(uint64_t(vocabulary))));
  }
  return batch;
}

// One of several ranks that have equal gradients and do not send them.
class StillRank : public HostCommunicator {
 public:
  explicit StillRank(int64_t world) : world_(world) {}
  ~StillRank() override { stop_background(); }
  int64_t rank() const override { return 0; }
  int64_t world() const override { return world_; }
  std::vector<std::string> all_gather(const std::string& message) override { return {size_t(world_), message}; }
  void barrier() override {}

 protected:
  void exchange_pieces(Line /*line*/, const std::byte* values, const Pieces& pieces, std::byte* parts) override {
    const int64_t bytes = pieces.of_rank[0].count * pieces.item;
    for (int64_t rank = 0; rank < world_; ++rank)
      std::memcpy(parts + rank * bytes, values + pieces.of_rank[0].begin * pieces.item, size_t(bytes));
  }
  void gather_pieces(Line /*line*/, std::byte* /*values*/, const Pieces& /*pieces*/) override {}
  void copy_from_first(void* /*bytes*/, int64_t /*count*/) override {}

 private:
  int64_t world_;
};

// The peak of three optimizer steps on one rank, in bytes.
inline int64_t measured_peak(const TrainConfig& config, const PlannedModels& models, bool with_teacher, Device device) {
  const int64_t before = memory_statistics(device).in_use;
  const DType dtype = compute_dtype_of(config);
  const auto student = make_model(models.student, models.leader_map, {DType::f32, true, device});
  initialize(*student, 0.02, 1);
  StillRank ranks(models.world);
  std::unique_ptr<GradientBuckets> buckets;
  std::unique_ptr<ParameterBuckets> parameters;
  if (models.world > 1) buckets = std::make_unique<GradientBuckets>(ranks, backward_order(*student), bucket_settings(config));
  if (buckets && config.shard_optimizer) parameters = std::make_unique<ParameterBuckets>(ranks, buckets->buckets());
  student->keep_compute_copies(dtype);
  std::unique_ptr<LanguageModel> teacher;
  if (with_teacher) {
    teacher = make_model(models.student, LeaderMap::own(models.student.num_hidden_layers), {dtype, false, device});
    initialize(*teacher, 0.02, 2);
  }
  std::unique_ptr<LayerShards> teacher_shards;
  if (teacher && config.shard_teacher && models.world > 1) teacher_shards = std::make_unique<LayerShards>(ranks, *teacher);
  AdamW optimizer = parameters ? AdamW(*student, {}, *parameters) : AdamW(*student, {});
  ForwardOptions options;
  options.compute_dtype = dtype;
  options.recompute = config.gradient_checkpointing;
  const LossSettings loss = with_teacher ? stage_loss({}) : true_label_loss();
  for (int step = 0; step < 3; ++step) {
    if (step == 1) reset_memory_peak(device);
    for (int64_t i = 0; i < config.gradient_accumulation_steps; ++i) {
      if (buckets && i + 1 == config.gradient_accumulation_steps) buckets->start_in_next_pass();
      accumulate_gradients(*student, teacher.get(), random_batch(config, models.student.vocab_size), loss, options, 1000);
    }
    if (buckets) buckets->finish();
    optimizer.step(1e-4, buckets ? buckets->norm() : optimizer.gradient_norm());
    buckets ? buckets->clear() : optimizer.clear_gradients();
  }
  return memory_statistics(device).peak - before;
}

}  // namespace echo
