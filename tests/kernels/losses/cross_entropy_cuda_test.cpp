#include "kernels/losses/cross_entropy.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::CrossEntropyTerms;

std::vector<int32_t> make_labels(int64_t rows, int64_t vocabulary) {
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < rows; ++i) labels.push_back(i % 4 == 1 ? -1 : int32_t((i * 5) % vocabulary));
  return labels;
}

Tensor as_tensor(const CrossEntropyTerms& terms) {
  return Tensor::from(std::vector<double>{terms.loss, double(terms.rows), double(terms.correct)});
}

// Logits are f32 whatever the dtype of activations. f32: the exponential's two units and sums of up to 2600 terms.
TEST(CudaCrossEntropyTest, AgreesWithF64OnTheCpu) {
  for (const auto& [rows, vocabulary] : {std::pair<int64_t, int64_t>{1, 1}, {6, 37}, {5, 64}, {3, 2600}}) {
    SCOPED_TRACE(concat(rows, " x ", vocabulary));
    const ParityCase body = [rows = rows, vocabulary = vocabulary](const ParitySetting& on) -> std::vector<Tensor> {
      Tensor logits = on.wide_input({rows, vocabulary}, 1, 3);
      const Tensor labels = on.indices(make_labels(rows, vocabulary), {rows});
      const Tensor without = as_tensor(kernels::cross_entropy(logits, labels));
      const Tensor with = as_tensor(kernels::cross_entropy_with_gradient(logits, labels, 0.3));
      return {without, with, logits};
    };
    expect_parity(body, DType::f32, 2e-6);
  }
}

TEST(CudaCrossEntropyTest, ZerosOfEitherSignAreEqualAndTheFirstIsTheMostLikely) {
  Tensor logits = Tensor::full({2, 2500}, -1, DType::f32);
  float* values = logits.data<float>();
  values[6] = -0.0f, values[700] = 0.0f;
  values[2500 + 6] = 0.0f, values[2500 + 700] = -0.0f;
  EXPECT_EQ(kernels::cross_entropy(logits.to(kCuda), Tensor::from(std::vector<int32_t>{6, 6}).to(kCuda)).correct, 2);
}

TEST(CudaCrossEntropyTest, NoRowsAreFineAndF64IsRefused) {
  const Tensor labels = Tensor::empty({0}, DType::i32, kCuda);
  EXPECT_EQ(kernels::cross_entropy(Tensor::empty({0, 5}, DType::f32, kCuda), labels).rows, 0);
  EXPECT_THROW(
      kernels::cross_entropy(Tensor::zeros({1, 5}, DType::f64, kCuda), Tensor::from(std::vector<int32_t>{1}).to(kCuda)), Error);
}

}  // namespace
}  // namespace echo
