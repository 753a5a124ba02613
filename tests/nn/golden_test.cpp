// Compares the engine with reference values: forward pass, losses and gradients of a real teacher and its shared-attention
// student.
#include <cmath>
#include <numeric>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "nn/generator.h"
#include "tests/nn/golden_values.h"

namespace echo {
namespace {

struct Case {
  const char* model;
  DType dtype;
  Device device = {};
};

constexpr Device kGpu{DeviceKind::cuda, 0};

class GoldenTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto shared = shared_folder();
    if (!shared) GTEST_SKIP() << kNoSharedFolder;
    golden_ = std::make_unique<GoldenValues>(*shared, GetParam().model, GetParam().device);
  }
  DType dtype() const { return GetParam().dtype; }
  double tolerance() const { return golden_tolerance(dtype()); }
  double term(const char* name) const { return golden_->values.at("terms").at(name).get<double>(); }

  std::unique_ptr<GoldenValues> golden_;
};

ForwardOptions options_for(DType compute_dtype, std::vector<int64_t> wanted_outputs = {}) {
  ForwardOptions options;
  options.compute_dtype = compute_dtype;
  options.wanted_outputs = std::move(wanted_outputs);
  return options;
}

Tensor rows_of(const Tensor& hidden) { return hidden.reshape({hidden.dim(0) * hidden.dim(1), hidden.dim(2)}); }
Variable rows_of(const Variable& hidden) { return reshape(hidden, {hidden.shape()[0] * hidden.shape()[1], hidden.shape()[2]}); }

ForwardResult without_gradient(const LanguageModel& model, const Tensor& ids, const ForwardOptions& options) {
  const NoGrad no_grad;
  return model.forward(ids, options);
}

// The mean over tokens of the loss of stage 1 with the paper's weights: 0.25 hidden + 0.25 KL(student || teacher) + 0.5 hard
// labels.
Variable stage1_total(const LanguageModel& student, const LanguageModel& teacher, const GoldenValues& golden,
                      ForwardOptions options) {
  options.wanted_outputs = golden.leader_map.block_ends();
  const double tokens = double(golden.ids().elements());
  ForwardOptions teacher_options = options;
  teacher_options.recompute = false;
  const ForwardResult of_teacher = without_gradient(teacher, golden.ids(), teacher_options);
  const ForwardResult of_student = student.forward(golden.ids(), options);
  Variable total = scale(distillation_loss(rows_of(of_student.hidden), student.head_weight(), rows_of(of_teacher.hidden.data()),
                                           teacher.head_weight().data(), golden.labels(), {.kl = 0.25, .hard_label = 0.5}),
                         1 / tokens);
  const double blocks = double(options.wanted_outputs.size());
  for (size_t i = 0; i < of_student.layer_outputs.size(); ++i)
    total = add(total, scale(hidden_error(of_student.layer_outputs[i], of_teacher.layer_outputs[i].data(), golden.labels(),
                                          kernels::HiddenNormalization::none),
                             0.25 / blocks / tokens));
  return total;
}

// Each gradient under its checkpoint name.
std::map<std::string, Tensor> gradients_of(const LanguageModel& model) {
  std::map<std::string, Tensor> result;
  for (const Parameter* parameter : model.parameters())
    for (NamedTensor& part : parts_of(*parameter, parameter->variable.gradient())) result[part.name] = part.tensor;
  return result;
}

double norm_of(const Tensor& tensor) {
  double sum = 0;
  for (const double value : values_of(tensor.to(Device{}))) sum += value * value;
  return std::sqrt(sum);
}

// Compares whole gradients if the reference has them, otherwise their norms.
void expect_gradients(const LanguageModel& model, const GoldenValues& golden, const std::string& who, double tolerance) {
  const nlohmann::json& norms = golden.values.at(who + "_grad_norms");
  const std::map<std::string, Tensor> gradients = gradients_of(model);
  EXPECT_EQ(gradients.size(), norms.size());
  for (const auto& [name, gradient] : gradients) {
    ASSERT_TRUE(norms.contains(name)) << name;
    const double expected = norms.at(name).get<double>();
    EXPECT_NEAR(norm_of(gradient), expected, tolerance * expected) << who << " " << name;
    const std::string stored = who + ".grad." + name;
    if (!golden.tensors.has(stored)) continue;
    EXPECT_LT(relative_difference(gradient, golden.tensors.read(stored)), tolerance) << stored;
  }
}

TEST_P(GoldenTest, LogitsAndBlockOutputsOfTeacherAndStudentEqualTheReference) {
  std::vector<int64_t> all(size_t(golden_->leader_map.layers()));
  std::iota(all.begin(), all.end(), 0);
  for (const bool shared : {false, true}) {
    const std::string who = shared ? "student" : "teacher";
    const auto model = shared ? golden_->student(dtype()) : golden_->teacher(dtype());
    const ForwardResult result = without_gradient(*model, golden_->ids(), options_for(dtype(), all));
    ASSERT_EQ(result.layer_outputs.size(), all.size());
    for (size_t i = 0; i < all.size(); ++i)
      EXPECT_LT(relative_difference(result.layer_outputs[i].data(), golden_->tensors.read(concat(who, ".block_output.", i))),
                tolerance())
          << who << " block " << i;
    EXPECT_LT(relative_difference(model->logits(result.hidden.data()), golden_->tensors.read(who + ".logits")), tolerance())
        << who;
  }
}

TEST_P(GoldenTest, EveryLossTermEqualsTheReference) {
  const auto teacher = golden_->teacher(dtype()), student = golden_->student(dtype());
  const ForwardOptions options = options_for(dtype(), golden_->leader_map.block_ends());
  const ForwardResult of_teacher = without_gradient(*teacher, golden_->ids(), options);
  const ForwardResult of_student = without_gradient(*student, golden_->ids(), options);
  Tensor none;
  const kernels::DistillationWeights weights{.kl = 0.25, .hard_label = 0.5};
  const auto terms = kernels::distillation_head(none, none, GradientMode::overwrite, rows_of(of_student.hidden.data()),
                                                student->head_weight().data(), rows_of(of_teacher.hidden.data()),
                                                teacher->head_weight().data(), golden_->labels(), weights, 1.0);
  const double tokens = double(terms.rows);
  double hidden = 0;
  for (size_t i = 0; i < of_student.layer_outputs.size(); ++i)
    hidden +=
        kernels::hidden_error(none, GradientMode::overwrite, of_student.layer_outputs[i].data(),
                              of_teacher.layer_outputs[i].data(), golden_->labels(), kernels::HiddenNormalization::none, 1.0)
            .raw;
  hidden /= tokens * double(of_student.layer_outputs.size());
  const auto expect_term = [&](const char* name, double value) {
    EXPECT_NEAR(value, term(name), tolerance() * term(name)) << name;
  };
  EXPECT_EQ(terms.rows, golden_->ids().elements());
  expect_term("intermediate_mse", hidden);
  expect_term("kl_student_teacher", terms.kl_student_teacher / tokens);
  expect_term("kl_teacher_student", terms.kl_teacher_student / tokens);
  expect_term("hard_label", terms.hard_label / tokens);
  expect_term("true_label", terms.true_label / tokens);
  expect_term("stage1_total", 0.25 * hidden + kernels::weighted_loss(terms, weights) / tokens);
}

TEST_P(GoldenTest, EveryGradientOfTheStudentEqualsTheReference) {
  const auto teacher = golden_->teacher(dtype()), student = golden_->student(dtype());
  Variable total = stage1_total(*student, *teacher, *golden_, options_for(dtype()));
  EXPECT_NEAR(total.data().item(), term("stage1_total"), tolerance() * term("stage1_total"));
  total.backward();
  expect_gradients(*student, *golden_, "student", tolerance());
}

TEST_P(GoldenTest, EveryGradientOfTheTeacherEqualsTheReference) {
  const auto teacher = golden_->teacher(dtype());
  const ForwardResult result = teacher->forward(golden_->ids(), options_for(dtype()));
  Variable loss = scale(distillation_loss(rows_of(result.hidden), teacher->head_weight(), {}, {}, golden_->labels(),
                                          {.kl = 0, .hard_label = 0, .true_label = 1}),
                        1 / double(golden_->ids().elements()));
  const double expected = golden_->values.at("teacher_true_label_loss").get<double>();
  EXPECT_NEAR(loss.data().item(), expected, tolerance() * expected);
  loss.backward();
  expect_gradients(*teacher, *golden_, "teacher", tolerance());
}

TEST_P(GoldenTest, RecomputeLeavesEveryGradientAsItIs) {
  const auto teacher = golden_->teacher(dtype()), plain = golden_->student(dtype()), recomputed = golden_->student(dtype());
  ForwardOptions options = options_for(dtype());
  stage1_total(*plain, *teacher, *golden_, options).backward();
  options.recompute = true;
  stage1_total(*recomputed, *teacher, *golden_, options).backward();
  const auto expected = gradients_of(*plain);
  // The same operations on the same numbers. Only the order of two additions may differ.
  for (const auto& [name, gradient] : gradients_of(*recomputed))
    EXPECT_LT(relative_difference(gradient, expected.at(name)), dtype() == DType::f64 ? 1e-14 : 1e-6) << name;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         testing::Values(Case{"stories260K", DType::f64}, Case{"stories260K", DType::f32},
                                         Case{"stories12L", DType::f64}, Case{"stories12L", DType::f32}),
                         [](const auto& instance) { return concat(instance.param.model, "_", instance.param.dtype); });
INSTANTIATE_TEST_SUITE_P(CudaModels, GoldenTest,
                         testing::Values(Case{"stories260K", DType::f32, kGpu}, Case{"stories12L", DType::f32, kGpu}),
                         [](const auto& instance) { return concat(instance.param.model, "_", instance.param.dtype); });

class GoldenTextTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto shared = shared_folder();
    if (!shared) GTEST_SKIP() << kNoSharedFolder;
    golden_ = std::make_unique<GoldenValues>(*shared, GetParam().model, GetParam().device);
  }
  std::vector<int32_t> expected(const char* key) const {
    return golden_->values.at("greedy").at(key).get<std::vector<int32_t>>();
  }

  std::unique_ptr<GoldenValues> golden_;
};

TEST_P(GoldenTextTest, GreedyTextOfTeacherAndStudentEqualsTheReference) {
  for (const bool shared : {false, true}) {
    const auto model = shared ? golden_->student(DType::f32) : golden_->teacher(DType::f32);
    const std::vector<int32_t> text = expected(shared ? "student_ids" : "teacher_ids");
    std::vector<int32_t> ids = golden_->prompt();
    GenerationOptions options;
    options.max_new_tokens = int64_t(text.size() - ids.size());
    const GenerationStatistics statistics = generate(*model, {ids}, options, [&](size_t, int32_t id) { ids.push_back(id); });
    if (statistics.ended[0]) ids.push_back(text.back());  // the end token is not returned
    EXPECT_EQ(ids, text) << (shared ? "student" : "teacher");
  }
}

// One pass over the whole text gives the choice at every position, without a cache.
TEST_P(GoldenTextTest, EveryGreedyChoiceFollowsFromOnePassOverTheText) {
  for (const bool shared : {false, true}) {
    const auto model = shared ? golden_->student(DType::f32) : golden_->teacher(DType::f32);
    const std::vector<int32_t> text = expected(shared ? "student_ids" : "teacher_ids");
    const int64_t tokens = int64_t(text.size());
    const ForwardResult result = without_gradient(*model, Tensor::from(text, {1, tokens}), options_for(DType::f32));
    const Tensor logits = model->logits(result.hidden.data());
    Sampler sampler({});
    for (int64_t t = int64_t(golden_->prompt().size()) - 1; t + 1 < tokens; ++t)
      EXPECT_EQ(sampler.choose(logits.select(0, 0).select(0, t)), text[size_t(t + 1)]) << "position " << t;
  }
}

TEST_P(GoldenTextTest, DecodingTokenByTokenEqualsOnePassOverAll) {
  // f64 sums in another order; hidden states are of size 1 to 10. A GPU computes in f32.
  const DType dtype = golden_->device.is_cpu() ? DType::f64 : DType::f32;
  const double tolerance = golden_->device.is_cpu() ? 1e-12 : 1e-4;
  for (const bool shared : {false, true}) {
    const auto model = shared ? golden_->student(dtype) : golden_->teacher(dtype);
    const Tensor ids = golden_->ids().narrow(0, 0, 3).narrow(1, 0, 32).contiguous();  // three sequences at once
    const int64_t batch = ids.dim(0), tokens = 32, prefix = 7;
    const Tensor expected_hidden = without_gradient(*model, ids, options_for(dtype)).hidden.data();
    KvCache cache = model->make_cache(batch, tokens, dtype);
    ForwardOptions options = options_for(dtype);
    options.cache = &cache;
    without_gradient(*model, ids.narrow(1, 0, prefix).contiguous(), options);
    for (int64_t t = prefix; t < tokens; ++t) {
      const Tensor hidden = model->decode(ids.select(1, t).contiguous(), cache, dtype);
      EXPECT_LT(largest_difference(hidden.to(Device{}), expected_hidden.select(1, t).to(Device{})), tolerance)
          << "position " << t;
    }
  }
}

// bf16 keeps 8 significant bits: a rounding has an error of up to 2^-9 = 0.2 %. Each layer adds a few roundings to a residual
// stream whose logits have size 10. Over 12 layers these random errors sum to a few hundredths in the mean.
TEST_P(GoldenTextTest, ComputingInBf16StaysClose) {
  for (const bool shared : {false, true}) {
    const std::string who = shared ? "student" : "teacher";
    const auto model = shared ? golden_->student(DType::f32) : golden_->teacher(DType::f32);
    const ForwardResult result = without_gradient(*model, golden_->ids(), options_for(DType::bf16));
    EXPECT_EQ(result.hidden.dtype(), DType::bf16);
    const std::vector<double> logits = values_of(model->logits(result.hidden.data()).to(Device{}));
    const std::vector<double> expected_logits = values_of(golden_->tensors.read(who + ".logits"));
    double squares = 0, power = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      squares += (logits[i] - expected_logits[i]) * (logits[i] - expected_logits[i]);
      power += expected_logits[i] * expected_logits[i];
    }
    EXPECT_LT(std::sqrt(squares / power), 0.02) << who;
    EXPECT_GT(std::sqrt(squares / power), 1e-5) << who << ": was not computed in bf16";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTextTest,
                         testing::Values(Case{"stories260K", DType::f32}, Case{"stories12L", DType::f32}),
                         [](const auto& instance) { return std::string(instance.param.model); });
INSTANTIATE_TEST_SUITE_P(CudaModels, GoldenTextTest, testing::Values(Case{"stories260K", DType::f32, kGpu}),
                         [](const auto& instance) { return std::string(instance.param.model); });

}  // namespace
}  // namespace echo
