#include "config/check.h"

#include "config/reading.h"
#include "config/train_config.h"
#include "tests/config/small_config.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using settings::Mode;
using settings::PlanMethod;

TEST(ConfigCheckTest, AUsableConfigurationHasNoProblem) { EXPECT_EQ(validate_config(small()), std::vector<std::string>{}); }

TEST(ConfigCheckTest, AFloat64RunDoesNotRoundItsGradients) {
  TrainConfig config = small();
  config.gradient_wire = settings::GradientWire::bfloat16;
  EXPECT_EQ(validate_config(config), std::vector<std::string>{});
  config.compute_dtype = settings::ComputeType::float64;
  ASSERT_EQ(validate_config(config).size(), 1u);
  expect_contains(validate_config(config)[0], "gradient_wire: is bfloat16");
}

TEST(ConfigCheckTest, EachRangeAndContradictionIsNamedByItsKey) {
  const std::pair<const char*, const char*> cases[] = {
      {"seed", "seed=-1"},
      {"output_dir", "output_dir="},
      {"resume_from_checkpoint", "resume_from_checkpoint="},
      {"device", "device=tpu"},
      {"threads", "threads=-1"},
      {"gradient_bucket_mib", "gradient_bucket_mib=0"},
      {"logging_steps", "logging_steps=0"},
      {"eval_rows", "eval_rows=0"},
      {"save_total_limit", "save_total_limit=-1"},
      {"async_save", "async_save=maybe"},
      {"per_device_train_batch_size", "per_device_train_batch_size=0"},
      {"gradient_accumulation_steps", "gradient_accumulation_steps=1e7"},
      {"max_steps", "max_steps=0"},
      {"data.epoch_tokens", "max_steps=-1"},
      {"warmup_ratio", "warmup_ratio=1.5"},
      {"warmup_steps", "warmup_steps=-1"},
      {"stage1.num_train_epochs", "stage1.num_train_epochs=0"},
      {"stage2.learning_rate", "stage2.learning_rate=-1"},
      {"learning_rate", "learning_rate=0"},
      {"weight_decay", "weight_decay=-0.1"},
      {"adam_beta1", "adam_beta1=1"},
      {"adam_beta2", "adam_beta2=-0.5"},
      {"adam_epsilon", "adam_epsilon=0"},
      {"max_grad_norm", "max_grad_norm=-1"},
      {"distillation.hidden_weight", "distillation.hidden_weight=-0.25"},
      {"distillation.kl_weight", "distillation.kl_weight=-1"},
      {"distillation.hard_label_weight", "distillation.hard_label_weight=-1"},
      {"distillation.true_label_weight", "distillation.true_label_weight=-1"},
      {"distillation.temperature", "distillation.temperature=0"},
      {"data.path", "data.path="},
      {"data.sequence_length", "data.sequence_length=1"},
      {"data.validation_fraction", "data.validation_fraction=1"},
      {"data.max_bad_fraction", "data.max_bad_fraction=2"},
      {"data.shuffle_tokens", "data.shuffle_tokens=0"},
      {"data.set_weights", "data.set_weights={C4: -1}"},
      {"data.set_names", "data.set_names=[A, A]"},
      {"teacher.model_name_or_path", "teacher.model_name_or_path="},
      {"student.plan.method", "student.plan.method=paper"},
      {"student.plan.followers", "student.plan.budget_parameters=100"},
      {"student.plan.layers", "student.plan.layers=[1, 2]"},
      {"student.leader_map", "student.leader_map=[0, 0]"},
  };
  for (const auto& [key, override_argument] : cases) {
    const std::vector<std::string> lines = check_config(read_config_text(kSmall, "x.yaml", {override_argument}));
    ASSERT_EQ(lines.size(), 1u) << override_argument;
    expect_contains(lines[0], concat(": ", key, ": "));
    EXPECT_TRUE(lines[0].starts_with("command line: ") || lines[0].starts_with("x.yaml:")) << lines[0];
  }
  const std::vector<std::string> in_file = check_config(read_config_text(std::string(kSmall) + "adam_beta1: 1\n", "x.yaml"));
  EXPECT_EQ(in_file, std::vector<std::string>{"x.yaml:10: adam_beta1: is 1.0; a value from 0 to below 1 is expected"});
}

// The keys in the problems, in order.
std::vector<std::string> keys_of(const TrainConfig& config) {
  std::vector<std::string> keys;
  for (const std::string& line : validate_config(config)) keys.push_back(line.substr(0, line.find(':')));
  return keys;
}

TEST(ConfigCheckTest, EachModeNamesWhatItCannotDoWithout) {
  using Keys = std::vector<std::string>;
  TrainConfig config;
  EXPECT_EQ(keys_of(config), (Keys{"data.epoch_tokens", "data.path", "teacher.model_name_or_path", "student.plan.method"}));
  config.mode = Mode::continue_training;
  EXPECT_EQ(keys_of(config), (Keys{"data.epoch_tokens", "data.path", "student.model_name_or_path"}));
  config.mode = Mode::pretrain;
  EXPECT_EQ(keys_of(config), (Keys{"data.epoch_tokens", "model.hidden_size", "model.intermediate_size",
                                   "model.num_hidden_layers", "model.num_attention_heads", "data.path", "tokenizer"}));
}

TEST(ConfigCheckTest, AnArchitectureThatDoesNotFitTogetherIsNamed) {
  const ConfigReading reading = read_config_text(
      "mode: pretrain\ntokenizer: t.model\nmax_steps: 1\ndata: {path: a, sequence_length: 64}\n"
      "model: {hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, "
      "num_key_value_heads: 2}\n",
      "x.yaml");
  const TrainConfig good = reading.config;
  EXPECT_EQ(check_config(reading), std::vector<std::string>{});
  const auto keys = [&](auto change) {
    TrainConfig changed = good;
    change(changed);
    return keys_of(changed);
  };
  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys([](TrainConfig& c) { c.model.num_key_value_heads = 3; }), Keys{"model.num_key_value_heads"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.model.hidden_size = 66; }), Keys{"model.num_attention_heads"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.model.hidden_size = 12; }), Keys{"model.num_attention_heads"}) << "heads of width 3";
  EXPECT_EQ(keys([](TrainConfig& c) { c.model.head_dim = 5; }), Keys{"model.head_dim"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.model.hidden_size = -8; }), Keys{"model.hidden_size"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.data.sequence_length = 4096; }), Keys{"data.sequence_length"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.student.leader_map = {0, 0, 0}; }), Keys{"student.leader_map"});
  EXPECT_EQ(keys([](TrainConfig& c) { c.student.leader_map = {0, 2}; }), Keys{"student.leader_map"}) << "points forward";
  EXPECT_EQ(keys([](TrainConfig& c) {
              c.model.num_hidden_layers = 3;
              c.student.leader_map = {0, 0, 1};
            }),
            Keys{"student.leader_map"})
      << "points at a follower";
  EXPECT_EQ(keys([](TrainConfig& c) {
              c.student.plan.method = PlanMethod::optimal;
              c.student.plan.followers = 1;
            }),
            Keys{"student.plan.analysis"});
}

TEST(ConfigCheckTest, PlansNameWhatTheyMiss) {
  const auto keys = [](const std::vector<std::string>& plan) {
    std::vector<std::string> overrides = {"student.plan.followers=0"};
    for (const std::string& setting : plan) overrides.push_back("student.plan." + setting);
    const ConfigReading reading = read_config_text(kSmall, "x.yaml", overrides);
    EXPECT_TRUE(reading.problems.empty());
    return keys_of(reading.config);
  };
  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys({"method=list"}), Keys{"student.plan.layers"});
  EXPECT_EQ(keys({"method=list", "layers=[2, 1]"}), Keys{});
  EXPECT_EQ(keys({"method=list", "layers=[2, 2]"}), Keys{"student.plan.layers"});
  EXPECT_EQ(keys({"method=list", "layers=[-1]"}), Keys{"student.plan.layers"});
  EXPECT_EQ(keys({"method=paper_following"}), Keys{"student.plan.layers"});
  EXPECT_EQ(keys({"method=paper_lending", "followers=3"}), Keys{});
  EXPECT_EQ(keys({"method=paper_lending", "followers=3", "layers=[1]"}), Keys{"student.plan.layers"});
  EXPECT_EQ(keys({"method=optimal"}), Keys{"student.plan.followers"});
  EXPECT_EQ(keys({"method=optimal", "budget_flops=1e6"}), Keys{});
  EXPECT_EQ(keys({"method=uniform", "block_size=1", "blocks=0", "first_shared=-1"}),
            (Keys{"student.plan.first_shared", "student.plan.block_size", "student.plan.blocks"}));
  EXPECT_EQ(keys({"method=none", "layers=[1]"}), (Keys{"student.plan.method", "student.plan.method"}));
}

TEST(ConfigStageTest, StepsFollowFromEpochsTokensAndTheCap) {
  TrainConfig config = small();
  config.max_steps = -1;
  config.data.epoch_tokens = 3'700'000'000;
  config.data.sequence_length = 2048;
  config.per_device_train_batch_size = 4;
  config.gradient_accumulation_steps = 256;
  EXPECT_EQ(tokens_per_step(config), 2'097'152);
  EXPECT_EQ(stage_steps(config, 1), 1765) << "3.7e9 / 2097152 = 1764.3";
  EXPECT_EQ(stage_steps(config, 2), 442) << "a quarter: 441.07";
  config.max_steps = 1000;
  EXPECT_EQ(stage_steps(config, 1), 1000) << "the cap holds for each stage";
  EXPECT_EQ(stage_steps(config, 2), 442);
  config.stage1.enabled = false;
  EXPECT_EQ(stage_steps(config, 1), 0);
  config.data.epoch_tokens = 0;
  EXPECT_EQ(stage_steps(config, 2), 1000) << "the cap alone";
  config.max_steps = -1;
  EXPECT_NE(error_message(ExitCode::config, [&] { stage_steps(config, 2); }).find("max_steps"), std::string::npos);
}

TEST(ConfigStageTest, RoundingOfTheEpochsAddsNoStep) {
  TrainConfig config = small();
  config.max_steps = -1;
  config.data.sequence_length = 10;
  config.per_device_train_batch_size = 1;
  config.data.epoch_tokens = 1000;
  for (int tenths = 1; tenths <= 100; ++tenths) {
    config.stage1.num_train_epochs = tenths * 0.1;  // 3 * 0.1 is more than 0.3
    EXPECT_EQ(stage_steps(config, 1), tenths * 10);
  }
  config.data.epoch_tokens = 1001;
  config.stage1.num_train_epochs = 1.0;
  EXPECT_EQ(stage_steps(config, 1), 101) << "a rest is a step";
}

TEST(ConfigStageTest, StagesCarryTheirRateAndWarmup) {
  TrainConfig config = small();
  config.max_steps = 300;
  config.learning_rate = 1e-3;
  config.stage2.learning_rate = 5e-4;
  const std::vector<TrainingStage> both = training_stages(config);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_TRUE(both[0].distillation);
  EXPECT_EQ(both[0].learning_rate, 1e-3);
  EXPECT_EQ(both[0].warmup_steps, 2) << "ceil(0.005 * 300)";
  EXPECT_FALSE(both[1].distillation);
  EXPECT_EQ(both[1].learning_rate, 5e-4);
  config.warmup_steps = 1000;
  config.mode = Mode::continue_training;
  const std::vector<TrainingStage> one = training_stages(config);
  ASSERT_EQ(one.size(), 1u);
  EXPECT_FALSE(one[0].distillation);
  EXPECT_EQ(one[0].learning_rate, 1e-3);
  EXPECT_EQ(one[0].warmup_steps, 300) << "no longer than the stage";
}

}  // namespace
}  // namespace echo
