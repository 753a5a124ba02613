#include "kernels/elementwise.h"
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/head_chunks.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::DistillationTerms;
using kernels::DistillationWeights;
using kernels::KlDirection;

constexpr KlDirection kDirections[] = {KlDirection::student_teacher, KlDirection::teacher_student, KlDirection::jensen_shannon};

struct Case {
  int64_t rows, width, teacher_width, vocabulary;
  DistillationWeights weights;
  int64_t chunk_rows = 0;
  bool with_teacher = true;
  GradientMode head_mode = GradientMode::overwrite;
  double size = 1;  // of hidden states
};

std::vector<int32_t> make_labels(int64_t rows, int64_t vocabulary) {
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < rows; ++i) labels.push_back(i % 5 == 2 ? -1 : int32_t((i * 7) % vocabulary));
  return labels;
}

// {losses}, {counts}, gradients of hidden states and head.
std::vector<Tensor> run(const ParitySetting& on, const Case& c) {
  const Tensor student_hidden = on.input({c.rows, c.width}, 1, c.size);
  const Tensor student_head = on.input({c.vocabulary, c.width}, 2, 1 / std::sqrt(double(c.width)));
  Tensor teacher_hidden, teacher_head;
  if (c.with_teacher) {
    teacher_hidden = on.input({c.rows, c.teacher_width}, 3, c.size);
    teacher_head = on.input({c.vocabulary, c.teacher_width}, 4, 1 / std::sqrt(double(c.teacher_width)));
  }
  Tensor d_hidden = on.output(student_hidden.shape()), d_head = on.wide_input(student_head.shape(), 5, 0.1);
  const DistillationTerms t =
      kernels::distillation_head(d_hidden, d_head, c.head_mode, student_hidden, student_head, teacher_hidden, teacher_head,
                                 on.indices(make_labels(c.rows, c.vocabulary), {c.rows}), c.weights, 0.25, c.chunk_rows);
  std::vector<double> losses, counts;
  DistillationTerms::visit([&]<class T>(const kernels::LossTerm&, T DistillationTerms::*member) {
    (std::is_same_v<T, double> ? losses : counts).push_back(double(t.*member));
  });
  return {Tensor::from(losses), Tensor::from(counts), d_hidden, d_head};
}

// f32: logits of size 3 to 10 have an error of 1e-6, which exponentials turn into a relative error. bf16: the gradients of the
// logits and of the hidden states are rounded to 8 bits. The losses come from f32 logits of the same operands.
void expect_head_parity(const Case& c) {
  const ParityCase body = [&c](const ParitySetting& on) { return run(on, c); };
  expect_parity(body, DType::f32, 1e-5);
  expect_parity(body, DType::bf16, 1.0 / 128);
}

TEST(CudaDistillationLossTest, AgreesWithF64OnTheCpuForEveryDirectionAndTemperature) {
  for (const KlDirection direction : kDirections) {
    for (const double temperature : {1.0, 2.5}) {
      SCOPED_TRACE(concat("direction ", int(direction), " temperature ", temperature));
      const DistillationWeights weights{
          .kl = 0.7, .hard_label = 0.4, .true_label = 0.3, .direction = direction, .temperature = temperature};
      expect_head_parity({7, 6, 9, 37, weights, 0, true, GradientMode::overwrite, 3});
    }
  }
}

TEST(CudaDistillationLossTest, RowsOfAnyLengthAgree) {
  const DistillationWeights weights{.kl = 0.7, .hard_label = 0.4, .true_label = 0.3};
  for (const int64_t vocabulary : {1, 3, 64, 512, 1301, 9001}) {  // one warp, several, all 16 of a block, tails
    SCOPED_TRACE(concat("vocabulary ", vocabulary));
    expect_head_parity({vocabulary > 1000 ? 2 : 4, 4, 4, vocabulary, weights, 0, true, GradientMode::overwrite, 2});
  }
}

// Chunks of 5 rows. In bf16, the gradients of two chunks are multiplied at once. The last chunk and the last pair are shorter.
TEST(CudaDistillationLossTest, ChunksAddUp) {
  const DistillationWeights weights{.kl = 0.7, .hard_label = 0.4, .true_label = 0.3, .direction = KlDirection::teacher_student};
  for (const GradientMode mode : {GradientMode::overwrite, GradientMode::accumulate})
    expect_head_parity({23, 8, 8, 20, weights, 5, true, mode});
}

TEST(CudaDistillationLossTest, EveryWeightMayBeZeroAndTheTeacherAbsent) {
  for (const DistillationWeights& weights :
       {DistillationWeights{.kl = 0, .hard_label = 0.4, .true_label = 0.3},
        DistillationWeights{.kl = 1, .hard_label = 0, .true_label = 0, .temperature = 0.7}})
    expect_head_parity({6, 4, 5, 40, weights});
  expect_head_parity({6, 4, 5, 40, {.kl = 0, .hard_label = 0, .true_label = 0.5}, 4, false});
}

// The CPU in bf16 rounds the same values, so its error is that of the simple computation.
TEST(CudaDistillationLossTest, Bfloat16ErrorIsAtMostTwiceThatOfTheCpu) {
  for (const KlDirection direction : kDirections) {
    const Case c{9,
                 16,
                 16,
                 300,
                 {.kl = 0.7, .hard_label = 0.4, .true_label = 0.3, .direction = direction},
                 0,
                 true,
                 GradientMode::overwrite,
                 3};
    const std::vector<Tensor> exact = run({Device{}, DType::f64, DType::bf16}, c),
                              plain = run({Device{}, DType::bf16, DType::bf16}, c),
                              gpu = run({kCuda, DType::bf16, DType::bf16}, c);
    for (const size_t i : {2, 3})
      EXPECT_LE(largest_difference(gpu[i].to(Device{}), exact[i]), 2 * largest_difference(plain[i], exact[i]))
          << "output " << i;
    EXPECT_LT(largest_difference(gpu[0], exact[0]), 1e-5 * largest_magnitude(exact[0]));  // logits are f32
  }
}

struct Outcome {
  DistillationTerms terms;
  Tensor d_hidden;
};

// With the identity as head, hidden states are logits.
Outcome on_logits(const Tensor& student, const Tensor& teacher, const std::vector<int32_t>& labels,
                  const DistillationWeights& weights) {
  const int64_t vocabulary = student.dim(1);
  Tensor identity = Tensor::zeros({vocabulary, vocabulary}, DType::f32), none;
  for (int64_t i = 0; i < vocabulary; ++i) identity.data<float>()[i * (vocabulary + 1)] = 1;
  Outcome result;
  result.d_hidden = Tensor::empty(student.shape(), DType::f32, kCuda);
  result.terms =
      kernels::distillation_head(result.d_hidden, none, GradientMode::overwrite, student.to(kCuda), identity.to(kCuda),
                                 teacher.to(kCuda), identity.to(kCuda), Tensor::from(labels).to(kCuda), weights, 1);
  result.d_hidden = result.d_hidden.to(Device{});
  return result;
}

TEST(CudaDistillationLossTest, LogitsThatAreNotFiniteMakeEveryTermAndTheRowsGradientNan) {
  for (const float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    for (const int64_t position : {0, 5, 69}) {
      for (const bool in_student : {true, false}) {
        // The head is all ones in one column, so a bad state makes all logits of its row bad, and those of no other row.
        Tensor hidden[2] = {random_tensor({3, 70}, DType::f32, 1), random_tensor({3, 70}, DType::f32, 2)};
        hidden[in_student ? 0 : 1].data<float>()[70 + position] = bad;
        const Outcome outcome = on_logits(hidden[0], hidden[1], {1, 2, 3}, {.direction = KlDirection::jensen_shannon});
        const DistillationTerms& t = outcome.terms;
        DistillationTerms::visit([&]<class T>(const kernels::LossTerm& term, T DistillationTerms::*member) {
          EXPECT_EQ(std::isnan(double(t.*member)), (std::is_same_v<T, double>))
              << term.sum << ": " << bad << " at " << position;
        });
        EXPECT_EQ(t.rows, 3);
        for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(all_finite(outcome.d_hidden.narrow(0, i, 1)), i != 1);
      }
    }
  }
}

TEST(CudaDistillationLossTest, LabelsOutsideTheVocabularyMakeTheLossNan) {
  const Tensor hidden = random_tensor({3, 12}, DType::f32, 1);
  for (const int32_t bad : {12, -2, 1 << 30}) {
    const Outcome outcome = on_logits(hidden, hidden, {1, bad, -1}, {});
    EXPECT_TRUE(std::isnan(outcome.terms.true_label));
    EXPECT_EQ(outcome.terms.rows, 2);
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(all_finite(outcome.d_hidden.narrow(0, i, 1)), i != 1);
  }
}

TEST(CudaDistillationLossTest, TheFirstOfEqualLogitsIsTheMostLikely) {
  Tensor student = Tensor::full({4, 2500}, -1, DType::f32), teacher = student.clone();
  float *s = student.data<float>(), *t = teacher.data<float>();
  s[1999] = s[1500] = t[1500] = 3;                // row 0: 1500 and 1500
  s[2500 + 700] = s[2500 + 6] = t[2500 + 6] = 0;  // row 1: 6 and 6
  t[5000 + 1] = -0.5f;                            // row 2: all equal, so 0, and 1
  s[7500 + 2499] = t[7500 + 2499] = 50;           // row 3: the last one, far above the rest
  const Outcome outcome = on_logits(student, teacher, {1500, 700, 0, 2499}, {});
  EXPECT_EQ(outcome.terms.agreements, 3);
  EXPECT_EQ(outcome.terms.correct, 3);
  EXPECT_TRUE(std::isfinite(weighted_loss(outcome.terms, {})));
}

// Steps of 40 from one logit to the next exceed every reference. A shift by 1e4 changes nothing except the rounding of the
// logits.
TEST(CudaDistillationLossTest, LargeAndShiftedLogitsStayFinite) {
  for (const KlDirection direction : kDirections) {
    Tensor student = Tensor::empty({2, 600}, DType::f32), teacher = Tensor::empty_like(student);
    for (int64_t i = 0; i < 600; ++i) {
      student.data<float>()[i] = float(40 * i), teacher.data<float>()[i] = float(40 * (600 - i));
      student.data<float>()[600 + i] = float(i % 7), teacher.data<float>()[600 + i] = 1e4f + float(i % 7);
    }
    const DistillationWeights weights{.kl = 1, .hard_label = 0, .true_label = 0, .direction = direction, .temperature = 3};
    const Outcome outcome = on_logits(student, teacher, {3, -1}, weights);
    EXPECT_NEAR(outcome.terms.kl_student_teacher, 40.0 * 599, 1e-2);  // f32: a few errors of 1e-7 of the value
    // Distributions without overlap have a divergence of log 2, and the square of the temperature is 9.
    if (direction == KlDirection::jensen_shannon) {
      EXPECT_NEAR(outcome.terms.kl, 9 * std::log(2.0), 1e-5);
    }
    EXPECT_TRUE(all_finite(outcome.d_hidden));
    const Outcome shifted = on_logits(student, teacher, {-1, 3}, weights);
    EXPECT_NEAR(shifted.terms.kl, 0, 1e-4);  // nine times the rounding of sums of 600 probabilities
    EXPECT_LT(largest_magnitude(shifted.d_hidden), 1e-6);
  }
}

TEST(CudaDistillationLossTest, ScratchIsBoundedWhateverTheRowsAndChunksAreWholeTiles) {
  for (const int64_t rows : {16384, 131072}) {
    const Tensor hidden = Tensor::empty({rows, 1}, DType::bf16, kCuda);
    const kernels::HeadChunks chunks = kernels::head_chunks(hidden, 32000, /*with_teacher=*/true, /*with_gradient=*/true, 0);
    EXPECT_EQ(chunks.chunk_rows, 384);
    EXPECT_LE(chunks.chunk_rows * chunks.row_stride * (4 + 4 + 2 * chunks.chunks_per_gradient), 150'000'000);
    EXPECT_EQ(kernels::head_chunks(hidden, 128256, true, true, 0).chunk_rows, 128);
  }
  EXPECT_EQ(kernels::head_chunks(Tensor::empty({50, 1}, DType::bf16, kCuda), 32000, true, true, 0).chunk_rows, 50);
}

TEST(CudaDistillationLossTest, SumsAloneAndNoRowsAreFine) {
  Tensor none;
  const Tensor hidden = random_tensor({3, 8}, DType::bf16, 1).to(kCuda),
               head = random_tensor({20, 8}, DType::bf16, 2).to(kCuda);
  const Tensor labels = Tensor::from(std::vector<int32_t>{1, 2, 3});
  const DistillationTerms terms =
      kernels::distillation_head(none, none, GradientMode::overwrite, hidden, head, hidden, head, labels.to(kCuda), {}, 1);
  EXPECT_EQ(terms.agreements, 3);
  EXPECT_EQ(terms.kl, 0);  // student and teacher are the same: every difference is 0
  Tensor d_head = Tensor::full({20, 8}, 3, DType::f32, kCuda);
  const DistillationTerms empty =
      kernels::distillation_head(none, d_head, GradientMode::overwrite, hidden.narrow(0, 0, 0), head, {}, {},
                                 Tensor::empty({0}, DType::i32, kCuda), {.kl = 0, .hard_label = 0}, 1);
  EXPECT_EQ(empty.rows, 0);
  EXPECT_EQ(largest_magnitude(d_head.to(Device{})), 0);
  EXPECT_THROW(kernels::distillation_head(none, none, GradientMode::overwrite, hidden, head, hidden, head, labels, {}, 1),
               Error);
}

}  // namespace
}  // namespace echo
