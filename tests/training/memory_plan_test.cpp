#include "training/memory_plan.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/test_support.h"
#include "tests/training/measured_peak.h"

namespace echo {
namespace {

TEST(MemoryPlanTest, IsWithinATenthOfTheMeasuredPeak) {
  for (int flags = 0; flags < 32; ++flags) {
    TrainConfig config;
    config.data.sequence_length = 128;
    config.per_device_train_batch_size = (flags & 16) != 0 ? 1 : 4;  // 1: weights outweigh activations
    config.gradient_accumulation_steps = (flags & 1) != 0 ? 2 : 1;
    config.gradient_checkpointing = (flags & 2) != 0;
    config.compute_dtype = (flags & 4) != 0 ? settings::ComputeType::bfloat16 : settings::ComputeType::float32;
    const bool with_teacher = (flags & 8) != 0;
    PlannedModels models{medium_model(), LeaderMap({0, 1, 1, 1, 4, 5})};
    if (with_teacher)
      models.teacher_bytes = parameter_count(models.student, LeaderMap::own(6)) * size_of(compute_dtype_of(config));
    const double planned = double(plan_memory(config, models, /*on_gpu=*/false).peak);
    const double measured = double(measured_peak(config, models, with_teacher, Device{}));
    EXPECT_NEAR(planned / measured, 1.0, 0.1)
        << "flags " << flags << ": planned " << planned / 1e6 << " MB, measured " << measured / 1e6 << " MB";
  }
}

TEST(MemoryPlanTest, IsWithinATenthOfTheMeasuredPeakOfEachOfFourRanks) {
  for (int flags = 0; flags < 16; ++flags) {
    TrainConfig config;
    config.data.sequence_length = 64;
    config.per_device_train_batch_size = (flags & 8) != 0 ? 1 : 4;  // 1: weights, moments and gradients outweigh activations
    config.shard_optimizer = (flags & 1) != 0;
    config.gradient_wire = (flags & 2) != 0 ? settings::GradientWire::bfloat16 : settings::GradientWire::float32;
    config.compute_dtype = (flags & 4) != 0 ? settings::ComputeType::bfloat16 : settings::ComputeType::float32;
    config.gradient_bucket_mib = 0.5;
    PlannedModels models{medium_model(), LeaderMap({0, 1, 1, 1, 4, 5})};
    models.world = 4;
    const double planned = double(plan_memory(config, models, /*on_gpu=*/false).peak);
    const double measured = double(measured_peak(config, models, /*with_teacher=*/false, Device{}));
    EXPECT_NEAR(planned / measured, 1.0, 0.1)
        << "flags " << flags << ": planned " << planned / 1e6 << " MB, measured " << measured / 1e6 << " MB";
  }
}

TEST(MemoryPlanTest, IsWithinATenthOfTheMeasuredPeakWithATeacherInShards) {
  for (const bool shard : {false, true}) {
    TrainConfig config;
    config.data.sequence_length = 64;
    config.per_device_train_batch_size = 1;
    config.shard_optimizer = true;
    config.shard_teacher = shard;
    config.gradient_bucket_mib = 0.5;
    PlannedModels models{medium_model(), LeaderMap({0, 1, 1, 1, 4, 5})};
    models.world = 4;
    models.teacher_bytes = parameter_count(models.student, LeaderMap::own(6)) * 4;
    models.teacher_layer_bytes = layer_matrix_elements(models.student, LeaderMap::own(6)) * 4;
    const double planned = double(plan_memory(config, models, /*on_gpu=*/false).peak);
    const double measured = double(measured_peak(config, models, /*with_teacher=*/true, Device{}));
    EXPECT_NEAR(planned / measured, 1.0, 0.1)
        << "shard_teacher " << shard << ": planned " << planned / 1e6 << " MB, measured " << measured / 1e6 << " MB";
  }
}

TEST(MemoryPlanTest, MomentsAreDividedAmongTheRanksThatShardThem) {
  TrainConfig config;
  PlannedModels models{medium_model(), LeaderMap::own(6)};
  const auto moments = [&] {
    for (const MemoryPlan::Part& part : plan_memory(config, models, false).parts)
      if (part.name == "optimizer moments") return part.bytes;
    return int64_t{0};
  };
  const int64_t whole = moments();
  models.world = 4;
  EXPECT_EQ(moments(), whole);
  const int64_t peak = plan_memory(config, models, false).peak;
  expect_contains(describe_memory(config, models, false, peak - whole / 2), "\n  shard_optimizer=true (");
  config.shard_optimizer = true;
  EXPECT_EQ(moments(), whole / 4);
}

TEST(MemoryPlanTest, NamesSettingsThatWouldMakeItFit) {
  TrainConfig config;
  config.data.sequence_length = 2048;
  config.per_device_train_batch_size = 8;
  PlannedModels models{medium_model(), LeaderMap::own(6)};
  const int64_t peak = plan_memory(config, models, true).peak;
  EXPECT_EQ(describe_memory(config, models, true, peak).find("fit"), std::string::npos);
  const std::string text = describe_memory(config, models, true, peak * 9 / 10);
  expect_contains(text, "does not fit");
  expect_contains(text, "gradient_checkpointing=true");
  expect_contains(text, "per_device_train_batch_size=4 gradient_accumulation_steps=2");
  expect_contains(text, "data.sequence_length=1024");
  EXPECT_NE(describe_memory(config, models, true, 1 << 20).find("nothing needs less"), std::string::npos);
}

TEST(MemoryPlanTest, WhereNoSettingNeedsLessItSaysSo) {
  TrainConfig config;
  config.data.sequence_length = 64;
  config.per_device_train_batch_size = 1;
  config.gradient_checkpointing = true;
  config.compute_dtype = settings::ComputeType::bfloat16;
  const std::string text = describe_memory(config, {medium_model(), LeaderMap::own(6)}, true, 1 << 20);
  EXPECT_NE(text.find("\n  as it is ("), std::string::npos) << text;
}

// The words between "need less:" and the end, one remedy per line.
std::vector<std::string> remedies_in(const std::string& text) {
  std::istringstream lines(text.substr(text.find("need less:")));
  std::vector<std::string> result;
  std::string line;
  for (std::getline(lines, line); std::getline(lines, line);) result.push_back(line.substr(2, line.rfind(" (") - 2));
  return result;
}

// Each remedy, taken literally, leads to a plan that fits.
TEST(MemoryPlanTest, ThereAreThreeRemediesAndEachFits) {
  TrainConfig config;
  config.data.sequence_length = 2048;
  config.per_device_train_batch_size = 6;
  const PlannedModels models{medium_model(), LeaderMap::own(6)};
  const int64_t peak = plan_memory(config, models, true).peak;
  for (const int percent : {90, 50, 30}) {
    const int64_t available = peak / 100 * percent;
    const std::vector<std::string> remedies = remedies_in(describe_memory(config, models, true, available));
    EXPECT_EQ(remedies.size(), 3u) << percent;
    for (const std::string& remedy : remedies) {
      TrainConfig changed = config;
      std::istringstream words(remedy);
      for (std::string word; words >> word;) {
        const std::string key = word.substr(0, word.find('=')), value = word.substr(word.find('=') + 1);
        if (key == "gradient_checkpointing") changed.gradient_checkpointing = value == "true";
        if (key == "per_device_train_batch_size") changed.per_device_train_batch_size = std::stoll(value);
        if (key == "gradient_accumulation_steps") changed.gradient_accumulation_steps = std::stoll(value);
        if (key == "data.sequence_length") changed.data.sequence_length = std::stoll(value);
        if (key == "compute_dtype") changed.compute_dtype = settings::ComputeType::bfloat16;
      }
      EXPECT_LE(plan_memory(changed, models, true).peak, available) << percent << " %: " << remedy;
      EXPECT_EQ(changed.per_device_train_batch_size * changed.gradient_accumulation_steps, 6) << remedy;
    }
  }
}

// TinyLlama distilled with 16k tokens at once. These figures decide whether a run fits on an H200 (139 GiB) or an 80 GB card.
TEST(MemoryPlanTest, TinyLlamaWithSixteenThousandTokensFitsOneLargeGpu) {
  LlamaConfig tiny_llama;
  tiny_llama.vocab_size = 32000, tiny_llama.hidden_size = 2048, tiny_llama.intermediate_size = 5632;
  tiny_llama.num_hidden_layers = 22, tiny_llama.num_attention_heads = 32, tiny_llama.num_key_value_heads = 4,
  tiny_llama.head_dim = 64;
  TrainConfig config;
  config.compute_dtype = settings::ComputeType::bfloat16;
  config.data.sequence_length = 2048;
  config.per_device_train_batch_size = 8;
  const PlannedModels models{tiny_llama, LeaderMap::own(22), int64_t{2} * 1'100'048'384};
  const int64_t peak = plan_memory(config, models, true).peak;
  EXPECT_GT(peak, int64_t{16 + 2} * 1'100'048'384);  // weights, copy, moments
  EXPECT_LT(peak, int64_t{79} << 30);
}

}  // namespace
}  // namespace echo
