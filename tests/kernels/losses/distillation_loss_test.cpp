#include "kernels/losses/distillation_loss.h"

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "kernels/matmul/matmul.h"
#include "tensor/allocator.h"
#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::DistillationTerms;
using kernels::DistillationWeights;
using kernels::KlDirection;
using kernels::Transpose;

constexpr KlDirection kDirections[] = {KlDirection::student_teacher, KlDirection::teacher_student, KlDirection::jensen_shannon};

struct Problem {
  Tensor student_hidden, student_head, teacher_hidden, teacher_head, labels;
  DistillationWeights weights;
  double gradient_scale = 1;
};

struct Outcome {
  DistillationTerms terms;
  Tensor d_hidden, d_head;
};

Problem make_problem(int64_t rows, int64_t width, int64_t teacher_width, int64_t vocabulary, DType dtype, double size = 1) {
  Problem p;
  p.student_hidden = random_tensor({rows, width}, dtype, 1, size);
  p.student_head = random_tensor({vocabulary, width}, dtype, 2, 1 / std::sqrt(double(width)));
  p.teacher_hidden = random_tensor({rows, teacher_width}, dtype, 3, size);
  p.teacher_head = random_tensor({vocabulary, teacher_width}, dtype, 4, 1 / std::sqrt(double(teacher_width)));
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < rows; ++i) labels.push_back(i % 5 == 2 ? -1 : int32_t((i * 7) % vocabulary));
  p.labels = Tensor::from(labels);
  p.weights = {.kl = 0.7, .hard_label = 0.4, .true_label = 0.3};
  return p;
}

Outcome run(const Problem& p, int64_t chunk_rows = 0) {
  Outcome result;
  result.d_hidden = Tensor::empty_like(p.student_hidden);
  result.d_head = Tensor::zeros(p.student_head.shape(), accumulator_dtype(p.student_head.dtype()));
  result.terms =
      kernels::distillation_head(result.d_hidden, result.d_head, GradientMode::overwrite, p.student_hidden, p.student_head,
                                 p.teacher_hidden, p.teacher_head, p.labels, p.weights, p.gradient_scale, chunk_rows);
  return result;
}

double loss(const Problem& p) {
  Tensor none;
  const DistillationTerms terms =
      kernels::distillation_head(none, none, GradientMode::overwrite, p.student_hidden, p.student_head, p.teacher_hidden,
                                 p.teacher_head, p.labels, p.weights, p.gradient_scale);
  return p.gradient_scale * weighted_loss(terms, p.weights);
}

// log softmax(logits / temperature), by the definition.
std::vector<double> log_softmax(const double* logits, int64_t count, double temperature) {
  double peak = logits[0];
  for (int64_t v = 0; v < count; ++v) peak = std::max(peak, logits[v]);
  double z = 0;
  for (int64_t v = 0; v < count; ++v) z += std::exp((logits[v] - peak) / temperature);
  std::vector<double> result;
  for (int64_t v = 0; v < count; ++v) result.push_back((logits[v] - peak) / temperature - std::log(z));
  return result;
}

double divergence(const std::vector<double>& p, const std::vector<double>& q, KlDirection direction) {
  double sum = 0;
  for (size_t v = 0; v < p.size(); ++v) {
    const double log_mean = std::log((std::exp(p[v]) + std::exp(q[v])) / 2);
    if (direction == KlDirection::student_teacher) sum += std::exp(p[v]) * (p[v] - q[v]);
    if (direction == KlDirection::teacher_student) sum += std::exp(q[v]) * (q[v] - p[v]);
    if (direction == KlDirection::jensen_shannon)
      sum += (std::exp(p[v]) * (p[v] - log_mean) + std::exp(q[v]) * (q[v] - log_mean)) / 2;
  }
  return sum;
}

// All terms from f64 copies of the operands, one formula at a time.
DistillationTerms naive_terms(const Problem& p) {
  const int64_t rows = p.student_hidden.dim(0), vocabulary = p.student_head.dim(0);
  Tensor s = Tensor::empty({rows, vocabulary}, DType::f64), t = Tensor::empty({rows, vocabulary}, DType::f64);
  kernels::matmul(s, kernels::cast(p.student_hidden, DType::f64), Transpose::no, kernels::cast(p.student_head, DType::f64),
                  Transpose::yes);
  kernels::matmul(t, kernels::cast(p.teacher_hidden, DType::f64), Transpose::no, kernels::cast(p.teacher_head, DType::f64),
                  Transpose::yes);
  DistillationTerms terms;
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t label = p.labels.data<int32_t>()[i];
    if (label < 0) continue;
    const double *student = s.data<double>() + i * vocabulary, *teacher = t.data<double>() + i * vocabulary;
    const auto ps = log_softmax(student, vocabulary, 1), pt = log_softmax(teacher, vocabulary, 1);
    const auto hot_s = log_softmax(student, vocabulary, p.weights.temperature);
    const auto hot_t = log_softmax(teacher, vocabulary, p.weights.temperature);
    const int64_t top_s = std::max_element(student, student + vocabulary) - student;
    const int64_t top_t = std::max_element(teacher, teacher + vocabulary) - teacher;
    terms.kl += p.weights.temperature * p.weights.temperature * divergence(hot_s, hot_t, p.weights.direction);
    terms.kl_student_teacher += divergence(ps, pt, KlDirection::student_teacher);
    terms.kl_teacher_student += divergence(ps, pt, KlDirection::teacher_student);
    terms.hard_label -= ps[size_t(top_t)];
    terms.true_label -= ps[size_t(label)];
    terms.rows += 1;
    terms.agreements += top_s == top_t;
    terms.correct += top_s == label;
  }
  return terms;
}

void expect_terms_near(const DistillationTerms& actual, const DistillationTerms& expected, double tolerance) {
  DistillationTerms::visit([&](const kernels::LossTerm& term, auto member) {
    EXPECT_NEAR(double(actual.*member), double(expected.*member), tolerance) << term.sum;  // for counts: equal
  });
}

TEST(DistillationLossTest, TermsMatchTheirFormulas) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    for (const int64_t vocabulary : {1, 13, 512, 1300}) {  // below, at and above the block of the inner sums
      for (const KlDirection direction : kDirections) {
        for (const double temperature : {1.0, 2.5}) {
          Problem p = make_problem(10, 6, 9, vocabulary, dtype, 3);
          p.weights.direction = direction;
          p.weights.temperature = temperature;
          SCOPED_TRACE(concat(dtype, " V ", vocabulary, " direction ", int(direction), " temperature ", temperature));
          // f32: logits up to 15 carry an error of 1e-6, and 8 rows are summed; temperature 2.5 multiplies by 6.25.
          expect_terms_near(run(p).terms, naive_terms(p), dtype == DType::f64 ? 1e-11 : 1e-4);
        }
      }
    }
  }
}

// Central differences of `loss` in every element of `x` against `gradient`.
void expect_finite_differences(const Problem& p, Tensor x, const Tensor& gradient) {
  constexpr double kStep = 1e-5;
  double* values = x.data<double>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double before = values[i];
    values[i] = before + kStep;
    const double above = loss(p);
    values[i] = before - kStep;
    const double below = loss(p);
    values[i] = before;
    // Step 1e-5 in f64: truncation 1e-10, rounding 1e-15 * 10 / 1e-5 = 1e-9.
    EXPECT_NEAR(gradient.data<double>()[i], (above - below) / (2 * kStep), 1e-8) << "element " << i;
  }
}

TEST(DistillationLossTest, GradientsMatchFiniteDifferencesForEveryDirectionTemperatureAndWeight) {
  for (const KlDirection direction : kDirections) {
    for (const double temperature : {1.0, 2.0, 0.7}) {
      for (const double hard_label : {0.0, 0.4}) {
        Problem p = make_problem(6, 4, 5, 11, DType::f64);
        p.weights = {0.7, hard_label, hard_label == 0 ? 0 : 0.3, direction, temperature};
        p.gradient_scale = 0.25;
        SCOPED_TRACE(concat("direction ", int(direction), " temperature ", temperature, " hard ", hard_label));
        const Outcome outcome = run(p);
        expect_finite_differences(p, p.student_hidden, outcome.d_hidden);
        expect_finite_differences(p, p.student_head, outcome.d_head);
      }
    }
  }
}

TEST(DistillationLossTest, GradientsMatchFiniteDifferencesWithoutDivergence) {
  Problem p = make_problem(6, 4, 5, 11, DType::f64);
  p.weights.kl = 0;
  const Outcome with_teacher = run(p);
  expect_finite_differences(p, p.student_hidden, with_teacher.d_hidden);
  p.weights.hard_label = 0;
  p.teacher_hidden = p.teacher_head = Tensor();
  const Outcome without = run(p);
  expect_finite_differences(p, p.student_hidden, without.d_hidden);
  expect_finite_differences(p, p.student_head, without.d_head);
  EXPECT_EQ(without.terms.kl_student_teacher, 0);
  EXPECT_EQ(without.terms.true_label, with_teacher.terms.true_label);
}

TEST(DistillationLossTest, ChunkSizeChangesNothingButTheOrderOfSums) {
  const Problem p = make_problem(37, 8, 8, 50, DType::f64);
  const Outcome whole = run(p, 37);
  for (const int64_t chunk : {1, 5, 36, 1000}) {
    const Outcome parts = run(p, chunk);
    EXPECT_NEAR(parts.terms.kl, whole.terms.kl, 1e-13 * whole.terms.kl);
    EXPECT_NEAR(parts.terms.hard_label, whole.terms.hard_label, 1e-13 * whole.terms.hard_label);
    EXPECT_LT(largest_difference(parts.d_hidden, whole.d_hidden), 1e-13);
    EXPECT_LT(largest_difference(parts.d_head, whole.d_head), 1e-13 * (1 + largest_magnitude(whole.d_head)));
  }
}

TEST(DistillationLossTest, HeadGradientAccumulates) {
  const Problem p = make_problem(12, 8, 8, 20, DType::f64);
  Outcome outcome = run(p);
  Tensor sum = outcome.d_head.clone(), none;
  kernels::distillation_head(none, sum, GradientMode::accumulate, p.student_hidden, p.student_head, p.teacher_hidden,
                             p.teacher_head, p.labels, p.weights, 1, 5);
  kernels::scale(outcome.d_head, outcome.d_head, 2);
  EXPECT_LT(largest_difference(sum, outcome.d_head), 1e-13);
}

TEST(DistillationLossTest, PaddingCountsNowhere) {
  const Problem p = make_problem(10, 6, 6, 20, DType::f64);
  const Outcome outcome = run(p);
  EXPECT_EQ(outcome.terms.rows, 8);
  Problem other = p;
  other.student_hidden = p.student_hidden.clone();
  for (const int64_t row : {2, 7})
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(outcome.d_hidden.data<double>()[row * 6 + i], 0);
      other.student_hidden.data<double>()[row * 6 + i] = std::nan("");  // the content of padding rows is not read
    }
  const Outcome changed = run(other);
  EXPECT_EQ(changed.terms.kl, outcome.terms.kl);
  EXPECT_EQ(changed.terms.true_label, outcome.terms.true_label);
}

TEST(DistillationLossTest, SinglePrecisionGradientsAreCloseToDouble) {
  for (const KlDirection direction : kDirections) {
    Problem p = make_problem(20, 16, 16, 700, DType::f32, 3);
    p.weights.direction = direction;
    Problem reference = p;
    for (Tensor* tensor :
         {&reference.student_hidden, &reference.student_head, &reference.teacher_hidden, &reference.teacher_head})
      *tensor = kernels::cast(*tensor, DType::f64);
    const Outcome f32 = run(p), f64 = run(reference);
    // f32 arithmetic: some ten roundings of 6e-8 per logit, logits of size 10.
    EXPECT_LT(largest_difference(f32.d_hidden, f64.d_hidden), 5e-6 * largest_magnitude(f64.d_hidden));
    EXPECT_LT(largest_difference(f32.d_head, f64.d_head), 5e-6 * largest_magnitude(f64.d_head));
  }
}

// The simple bf16 version rounds the exact gradient of the logits to bf16, and multiplies in f64.
TEST(DistillationLossTest, Bfloat16ErrorIsAtMostTwiceThatOfRoundingTheLogitGradient) {
  for (const KlDirection direction : kDirections) {
    Problem p = make_problem(20, 16, 16, 300, DType::bf16, 3);
    p.weights.direction = direction;
    Problem reference = p;
    for (Tensor* tensor :
         {&reference.student_hidden, &reference.student_head, &reference.teacher_hidden, &reference.teacher_head})
      *tensor = kernels::cast(*tensor, DType::f64);
    const Outcome bf16 = run(p), f64 = run(reference);
    // With the logits as hidden states and the identity as head, d_hidden is the gradient of the logits.
    Problem logits = reference;
    logits.student_hidden = Tensor::empty({20, 300}, DType::f64);
    kernels::matmul(logits.student_hidden, reference.student_hidden, Transpose::no, reference.student_head, Transpose::yes);
    logits.student_head = Tensor::zeros({300, 300}, DType::f64);
    for (int64_t i = 0; i < 300; ++i) logits.student_head.data<double>()[i * 301] = 1;
    const Tensor rounded = kernels::cast(kernels::cast(run(logits).d_hidden, DType::bf16), DType::f64);
    Tensor plain_hidden = Tensor::empty_like(f64.d_hidden), plain_head = Tensor::empty_like(f64.d_head);
    kernels::matmul(plain_hidden, rounded, Transpose::no, reference.student_head, Transpose::no);
    kernels::matmul(plain_head, rounded, Transpose::yes, reference.student_hidden, Transpose::no);
    const Tensor plain_hidden_bf16 = kernels::cast(plain_hidden, DType::bf16);
    EXPECT_LE(largest_difference(bf16.d_hidden, f64.d_hidden), 2 * largest_difference(plain_hidden_bf16, f64.d_hidden));
    EXPECT_LE(largest_difference(bf16.d_head, f64.d_head), 2 * largest_difference(plain_head, f64.d_head));
    EXPECT_NEAR(bf16.terms.kl, f64.terms.kl, 1e-4 * f64.terms.kl);  // logits are f32: the operands' rounding is in both
  }
}

TEST(DistillationLossTest, LargeLogitsStayFinite) {
  for (const KlDirection direction : kDirections) {
    for (const double temperature : {1.0, 3.0}) {
      Problem p = make_problem(10, 8, 8, 600, DType::f32, 1e4);
      p.weights.direction = direction;
      p.weights.temperature = temperature;
      const Outcome outcome = run(p);
      const DistillationTerms expected = naive_terms(p);
      EXPECT_TRUE(std::isfinite(weighted_loss(outcome.terms, p.weights)));
      EXPECT_TRUE(all_finite(outcome.d_hidden));
      EXPECT_TRUE(all_finite(outcome.d_head));
      // A logit of 1e4 has an f32 error of about 1e-2.
      EXPECT_NEAR(outcome.terms.kl_student_teacher, expected.kl_student_teacher, 1e-5 * expected.kl_student_teacher);
      if (direction == KlDirection::jensen_shannon) {
        // At most log 2 per row. Divided by a temperature, logits are rounded once more: an ulp of 1e4 is 1e-3.
        const double rounding = temperature == 1 ? 1e-4 : 8 * 1e-3;
        EXPECT_LE(outcome.terms.kl, temperature * temperature * (8 * std::log(2.0) + rounding));
      }
    }
  }
}

TEST(DistillationLossTest, IdenticalModelsHaveNoDivergenceAndNoDivergenceGradient) {
  for (const KlDirection direction : kDirections) {
    Problem p = make_problem(10, 8, 8, 600, DType::f32, 4);
    p.teacher_hidden = p.student_hidden;
    p.teacher_head = p.student_head;
    p.weights = {.kl = 1, .hard_label = 0, .true_label = 0, .direction = direction};
    const Outcome outcome = run(p);
    EXPECT_NEAR(outcome.terms.kl, 0, 1e-6);  // f32 sums of probabilities: 1e-7 a row
    EXPECT_LT(largest_magnitude(outcome.d_hidden), 1e-6);
    EXPECT_EQ(outcome.terms.agreements, outcome.terms.rows);
  }
}

TEST(DistillationLossTest, LogitsThatAreNotFiniteMakeEveryTermNan) {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (const bool in_student : {true, false}) {
      Problem p = make_problem(10, 8, 8, 600, DType::f32);
      Tensor& hidden = in_student ? p.student_hidden : p.teacher_hidden;
      hidden.data<float>()[3] = bad;
      const Outcome outcome = run(p);
      EXPECT_TRUE(std::isnan(outcome.terms.kl));
      EXPECT_TRUE(std::isnan(outcome.terms.hard_label));
      EXPECT_TRUE(std::isnan(outcome.terms.true_label));
      EXPECT_FALSE(all_finite(outcome.d_head));
    }
  }
}

TEST(DistillationLossTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Problem p = make_problem(64, 16, 16, 900, DType::f64);
  expect_same_bits_on_any_number_of_threads([&] {
    const Outcome outcome = run(p, 20);
    std::vector<double> terms;
    DistillationTerms::visit([&](const auto&, auto member) { terms.push_back(double(outcome.terms.*member)); });
    return std::vector{terms, outcome.d_hidden.to_vector<double>(), outcome.d_head.to_vector<double>()};
  });
}

TEST(DistillationLossTest, ScratchIsBoundedWhateverTheRows) {
  Problem p = make_problem(4096, 4, 4, 8192, DType::f32);
  Tensor d_hidden = Tensor::empty_like(p.student_hidden), d_head = Tensor::zeros_like(p.student_head);
  CpuAllocator::instance().reset_peak();
  const int64_t before = CpuAllocator::instance().statistics().in_use;
  kernels::distillation_head(d_hidden, d_head, GradientMode::overwrite, p.student_hidden, p.student_head, p.teacher_hidden,
                             p.teacher_head, p.labels, p.weights, 1);
  // The logits of all rows would be 2 x 128 MiB.
  EXPECT_LE(CpuAllocator::instance().statistics().peak - before, int64_t{64} << 20);
}

TEST(DistillationLossTest, WrongArgumentsAreNamed) {
  const Problem good = make_problem(10, 8, 8, 20, DType::f32);
  const auto message = [&](auto change) {
    Problem p = good;
    change(p);
    return error_message(ExitCode::internal, [&] { run(p); });
  };
  EXPECT_NE(message([](Problem& p) { p.labels = Tensor::full({10}, 1, DType::f32); }).find("labels"), std::string::npos);
  EXPECT_NE(message([](Problem& p) { p.labels = Tensor::from(std::vector<int32_t>(10, 20)); }).find("label 20 in row 0"),
            std::string::npos);
  EXPECT_NE(message([](Problem& p) { p.teacher_hidden = Tensor(); }).find("teacher"), std::string::npos);
  EXPECT_NE(message([](Problem& p) { p.teacher_hidden = p.teacher_head = Tensor(); }).find("need a teacher"),
            std::string::npos);
  EXPECT_NE(message([](Problem& p) { p.teacher_head = p.teacher_head.narrow(0, 0, 19); }).find("(19, 8)"), std::string::npos);
  EXPECT_NE(message([](Problem& p) { p.weights.temperature = 0; }).find("temperature"), std::string::npos);
}

}  // namespace
}  // namespace echo
