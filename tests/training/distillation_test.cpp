#include "training/distillation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/random.h"
#include "nn/generator.h"
#include "nn/model_io.h"
#include "tests/test_support.h"
#include "training/optimizer.h"
#include "training/schedule.h"

namespace echo {
namespace {

using nlohmann::json;

// ---- the 12 golden steps -----------------------------------------------------------------------------------------

Batch golden_batch(const json& rows, size_t index) {
  constexpr size_t kRows = 8;
  Batch batch;
  batch.rows = kRows;
  batch.sequence_length = int64_t(rows[0].size()) - 1;
  for (size_t j = 0; j < kRows; ++j) {
    const auto row = rows[kRows * index + j].get<std::vector<int32_t>>();
    batch.inputs.insert(batch.inputs.end(), row.begin(), row.end() - 1);
    batch.labels.insert(batch.labels.end(), row.begin() + 1, row.end());
  }
  batch.valid_tokens = int64_t(batch.labels.size());
  return batch;
}

LossSettings paper_loss() {
  LossSettings loss = stage_loss({});
  EXPECT_EQ(loss.hidden_weight, 0.25);
  EXPECT_EQ(loss.head.kl, 0.25);
  EXPECT_EQ(loss.head.hard_label, 0.5);
  return loss;
}

void expect_relative(double value, double expected, double tolerance, const std::string& what) {
  EXPECT_NEAR(value, expected, tolerance * std::abs(expected)) << what;
}

void golden_training(const std::string& model, DType dtype, double tolerance, Device device = {}) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const json golden = json::parse(read_file(*shared / "golden" / model / "values.json"));
  const json &rows = golden["training"]["rows"], &log = golden["training"]["log"];
  const CheckpointReader checkpoint(*shared / "models" / model);
  const auto teacher = load_model(checkpoint, {.dtype = dtype, .requires_gradient = false, .device = device});
  const auto student = load_student(checkpoint, LeaderMap::from_json(golden["leader_map"]), {.dtype = dtype, .device = device});
  ForwardOptions options;
  options.compute_dtype = dtype;

  size_t at = 0;
  for (const TrainingStage& stage : {TrainingStage{1, true, 8, 2, 1e-3}, TrainingStage{2, false, 4, 2, 1e-3}}) {
    const LossSettings loss = stage.distillation ? paper_loss() : true_label_loss();
    AdamW optimizer(*student, {.weight_decay = 0.01});
    for (int64_t step = 0; step < stage.steps; ++step, ++at) {
      const json& expected = log.at(at);
      const std::string where = concat(model, " stage ", stage.number, " step ", step);
      const Batch batch = golden_batch(rows, size_t(step));
      const LossSums sums = accumulate_gradients(*student, teacher.get(), batch, loss, options, batch.valid_tokens);
      const double norm = optimizer.gradient_norm(), tokens = double(sums.tokens);
      const double rate = learning_rate_at(stage, settings::Scheduler::cosine, step);
      expect_relative(rate, expected["lr"], 1e-12, where + " rate");
      expect_relative(sums.loss / tokens, expected["loss"], tolerance, where + " loss");
      expect_relative(norm, expected["grad_norm"], tolerance, where + " gradient norm");
      expect_relative(sums.head.true_label / tokens, expected["true_label"], tolerance, where + " true labels");
      if (stage.distillation) {
        expect_relative(sums.hidden.raw / tokens, expected["intermediate_mse"], tolerance, where + " hidden error");
        expect_relative(sums.head.kl_student_teacher / tokens, expected["kl_student_teacher"], tolerance, where + " KL");
        expect_relative(sums.head.kl_teacher_student / tokens, expected["kl_teacher_student"], tolerance, where + " KL");
        expect_relative(sums.head.hard_label / tokens, expected["hard_label"], tolerance, where + " hard labels");
      }
      optimizer.step(rate, norm);
      optimizer.clear_gradients();
    }
  }

  const json& greedy = golden["greedy"];
  auto ids = greedy["prompt_ids"].get<std::vector<int32_t>>();
  const auto expected = greedy["trained_student_ids"].get<std::vector<int32_t>>();
  GenerationOptions generation;
  generation.max_new_tokens = int64_t(expected.size() - ids.size());
  generation.sampling.temperature = 0;
  generation.compute_dtype = dtype;
  const std::vector<int32_t> prompt = ids;
  generate(*student, {prompt}, generation, [&](size_t, int32_t id) { ids.push_back(id); });
  EXPECT_EQ(ids, expected) << model << ": text of the trained student";
}

// Losses and norms were computed in f64. In f32 rounding errors accumulate over the steps.
TEST(GoldenTrainingTest, TwelveStepsOfStories260KEqualTheReferenceInF64) { golden_training("stories260K", DType::f64, 1e-6); }
TEST(GoldenTrainingTest, TwelveStepsOfStories260KEqualTheReferenceInF32) { golden_training("stories260K", DType::f32, 1e-3); }
TEST(GoldenTrainingTest, TwelveStepsOfStories12LEqualTheReferenceInF64) { golden_training("stories12L", DType::f64, 1e-6); }
TEST(GoldenTrainingTest, TwelveStepsOfStories12LEqualTheReferenceInF32) { golden_training("stories12L", DType::f32, 1e-3); }
TEST(CudaGoldenTrainingTest, TwelveStepsOfStories260KEqualTheReferenceInF32) {
  golden_training("stories260K", DType::f32, 1e-3, {DeviceKind::cuda, 0});
}

// ---- splits of a global batch ------------------------------------------------------------------------------------

constexpr int64_t kRows = 6, kLength = 10, kVocabulary = 40;

LlamaConfig tiny_config() {
  LlamaConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.initializer_range = 0.3;  // large, so that no gradient is near zero
  return config;
}

std::unique_ptr<LanguageModel> tiny_model(const LeaderMap& map, uint64_t seed, bool requires_gradient) {
  auto model = make_model(tiny_config(), map, {.dtype = DType::f64, .requires_gradient = requires_gradient});
  initialize(*model, 0.3, seed);
  return model;
}

// Rows `first` to `last` of a global batch in which every row has a different number of labels that count; the second row has
// none.
Batch part(int64_t first, int64_t last) {
  Batch batch;
  batch.sequence_length = kLength;
  RandomSequence random(/*seed=*/7, /*stream=*/1);
  for (int64_t row = 0; row < last; ++row) {
    const int64_t valid = row == 1 ? 0 : kLength - row;
    for (int64_t t = 0; t < kLength; ++t) {
      const auto input = int32_t(random.below(kVocabulary)), label = int32_t(random.below(kVocabulary));
      if (row < first) continue;
      batch.inputs.push_back(input);
      batch.labels.push_back(t < valid ? label : kIgnoredLabel);
    }
    if (row < first) continue;
    ++batch.rows;
    batch.valid_tokens += valid;
  }
  return batch;
}

struct Pass {
  LossSums sums;
  std::vector<Tensor> gradients;
};

Pass pass(const std::vector<int64_t>& cuts, const LossSettings& loss, bool recompute) {
  const auto teacher = tiny_model(LeaderMap::own(4), 1, false);
  const auto student = tiny_model(LeaderMap({0, 1, 1, 1}), 2, true);
  ForwardOptions options;
  options.compute_dtype = DType::f64;
  options.recompute = recompute;
  const int64_t tokens = part(0, kRows).valid_tokens;
  Pass result;
  for (size_t i = 0; i + 1 < cuts.size(); ++i)
    result.sums += accumulate_gradients(*student, teacher.get(), part(cuts[i], cuts[i + 1]), loss, options, tokens);
  for (const Parameter* parameter : student->parameters()) result.gradients.push_back(parameter->variable.gradient());
  return result;
}

void expect_same(const Pass& a, const Pass& b) {
  EXPECT_NEAR(a.sums.loss, b.sums.loss, 1e-12 * std::abs(a.sums.loss));
  EXPECT_EQ(a.sums.tokens, b.sums.tokens);
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    ASSERT_EQ(a.gradients[i].shape(), b.gradients[i].shape());
    const double *x = a.gradients[i].data<double>(), *y = b.gradients[i].data<double>();
    double largest = 0, difference = 0;
    for (int64_t j = 0; j < a.gradients[i].elements(); ++j) {
      largest = std::max(largest, std::abs(x[j]));
      difference = std::max(difference, std::abs(x[j] - y[j]));
    }
    EXPECT_GT(largest, 0) << "gradient " << i;
    EXPECT_LE(difference, 1e-12 * largest) << "gradient " << i;  // f64: a few roundings of sums in another order
  }
}

LossSettings every_term() {
  LossSettings loss = paper_loss();
  loss.head.true_label = 0.3;
  loss.head.temperature = 2;
  return loss;
}

const std::vector<std::vector<int64_t>> kSplits = {{0, 1, 2, 3, 4, 5, 6}, {0, 1, 6}, {0, 2, 6}, {0, 4, 5, 6}};

TEST(SplitTest, AnySplitIntoMicroBatchesGivesTheSameGradientWithUnequalTokenCounts) {
  const Pass whole = pass({0, kRows}, every_term(), false);
  for (const auto& cuts : kSplits) expect_same(whole, pass(cuts, every_term(), false));
}

TEST(SplitTest, AnySplitGivesTheSameGradientWhenTheHiddenErrorIsDividedByTheTeachersPower) {
  LossSettings loss = every_term();
  loss.hidden_normalization = kernels::HiddenNormalization::teacher_power;
  const Pass whole = pass({0, kRows}, loss, false);
  for (const auto& cuts : kSplits) expect_same(whole, pass(cuts, loss, false));
}

TEST(SplitTest, AnySplitGivesTheSameGradientOnTrueLabels) {
  const Pass whole = pass({0, kRows}, true_label_loss(), false);
  for (const auto& cuts : kSplits) expect_same(whole, pass(cuts, true_label_loss(), false));
}

TEST(SplitTest, RecomputingActivationsDoesNotChangeTheGradient) {
  expect_same(pass({0, kRows}, every_term(), false), pass({0, 2, 6}, every_term(), true));
}

TEST(DistillationTest, ALossThatNeedsATeacherIsRefusedWithoutOne) {
  const auto student = tiny_model(LeaderMap::own(4), 2, true);
  EXPECT_NE(
      error_message(ExitCode::internal, [&] { accumulate_gradients(*student, nullptr, part(0, 1), paper_loss(), {}, 10); })
          .find("needs a teacher"),
      std::string::npos);
}

TEST(DistillationTest, AStudentEqualToItsTeacherHasNoDivergenceAndFullAgreement) {
  const auto teacher = tiny_model(LeaderMap::own(4), 1, false), student = tiny_model(LeaderMap::own(4), 1, true);
  ForwardOptions options;
  options.compute_dtype = DType::f64;
  const LossSums sums = accumulate_gradients(*student, teacher.get(), part(0, kRows), paper_loss(), options, 1);
  EXPECT_NEAR(sums.head.kl_student_teacher, 0, 1e-12);
  EXPECT_NEAR(sums.hidden.raw, 0, 1e-12);
  EXPECT_EQ(sums.head.agreements, sums.tokens);
}

}  // namespace
}  // namespace echo
