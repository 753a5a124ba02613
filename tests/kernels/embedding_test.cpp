#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::embedding_backward;
using kernels::embedding_forward;

constexpr DType kFloats[] = {DType::f64, DType::f32, DType::bf16};

TEST(EmbeddingTest, RowsAreTakenAndConverted) {
  const Tensor ids = Tensor::from(std::vector<int32_t>{4, 0, 4, 2});
  for (const DType table_dtype : kFloats) {
    for (const DType dtype : kFloats) {
      const Tensor table = random_tensor({5, 3}, table_dtype, 1);
      Tensor y = Tensor::empty({4, 3}, dtype);
      embedding_forward(y, ids, table);
      const Tensor converted = kernels::cast(table, dtype);
      for (int64_t i = 0; i < 4; ++i)
        EXPECT_EQ(largest_difference(y.select(0, i), converted.select(0, ids.data<int32_t>()[i])), 0) << table_dtype << dtype;
    }
  }
}

TEST(EmbeddingTest, GradientsOfEqualIdsAddUpInTheOrderOfPositions) {
  const Tensor ids = Tensor::from(std::vector<int32_t>{1, 3, 1, 0, 1});
  for (const DType dtype : kFloats) {
    const Tensor dy = random_tensor({5, 2}, dtype, 1);
    const std::vector<double> g = values_of(dy);
    Tensor d_table = Tensor::full({4, 2}, 7, accumulator_dtype(dtype));
    embedding_backward(d_table, GradientMode::overwrite, dy, ids);
    std::vector<double> d = values_of(d_table);
    for (size_t j = 0; j < 2; ++j) {
      EXPECT_EQ(d[0 + j], g[6 + j]);
      const double in_order =
          dtype == DType::f64 ? g[j] + g[4 + j] + g[8 + j] : double(float(float(g[j]) + float(g[4 + j])) + float(g[8 + j]));
      EXPECT_EQ(d[2 + j], in_order) << dtype;
      EXPECT_EQ(d[4 + j], 0);
      EXPECT_EQ(d[6 + j], g[2 + j]);
    }
    embedding_backward(d_table, GradientMode::accumulate, dy, ids);
    const std::vector<double> twice = values_of(d_table);
    for (size_t i = 0; i < d.size(); ++i) EXPECT_NEAR(twice[i], 2 * d[i], 1e-6);  // three f32 additions of values of size 1
  }
}

TEST(EmbeddingTest, GradientHasTheSameBitsOnAnyNumberOfThreads) {
  RandomSequence random(5);
  std::vector<int32_t> ids(2003);
  for (int32_t& id : ids) id = int32_t(random.below(37));
  const Tensor dy = random_tensor({2003, 16}, DType::f32, 1);
  expect_same_bits_on_any_number_of_threads([&] {
    Tensor result = Tensor::empty({40, 16}, DType::f32);
    embedding_backward(result, GradientMode::overwrite, dy, Tensor::from(ids));
    return result.to_vector<float>();
  });
}

TEST(EmbeddingTest, IdsOutsideTheVocabularyAreNamed) {
  const Tensor table = Tensor::zeros({4, 2}, DType::f32);
  Tensor y = Tensor::zeros({3, 2}, DType::f32), d_table = table.clone();
  for (const int32_t bad : {4, -1}) {
    const Tensor ids = Tensor::from(std::vector<int32_t>{0, 3, bad});
    const std::string expected = concat("id ", bad, " at position 2, vocabulary 4");
    EXPECT_NE(error_message(ExitCode::internal, [&] { embedding_forward(y, ids, table); }).find(expected), std::string::npos);
    EXPECT_NE(
        error_message(ExitCode::internal, [&] { embedding_backward(d_table, GradientMode::overwrite, y, ids); }).find(expected),
        std::string::npos);
  }
  const Tensor ids = Tensor::from(std::vector<int64_t>{0, 1, 2});
  EXPECT_NE(error_message(ExitCode::internal, [&] { embedding_forward(y, ids, table); }).find("dtype is i64, accessed as i32"),
            std::string::npos);
  Tensor wrong = Tensor::zeros({3, 3}, DType::f32);
  EXPECT_NE(error_message(ExitCode::internal,
                          [&] {
                            embedding_forward(wrong, Tensor::from(std::vector<int32_t>{0, 1, 2}), table);
                          })
                .find("y is f32 (3, 3) for ids i32 (3), table f32 (4, 2)"),
            std::string::npos);
  Tensor none = Tensor::zeros({0, 2}, DType::f32);
  embedding_forward(none, Tensor::from(std::vector<int32_t>{}), table);
}

}  // namespace
}  // namespace echo
