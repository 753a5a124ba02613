#include "kernels/embedding.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::embedding_backward;
using kernels::embedding_forward;

std::vector<int32_t> random_ids(int64_t count, int64_t vocabulary, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = int32_t(random.below(uint64_t(vocabulary)));
  return ids;
}

// Rows are copied. The tolerance is the rounding to y's dtype when the table's dtype is wider.
TEST(CudaEmbeddingTest, RowsAreTakenAndConverted) {
  for (const int64_t width : {1, 7, 16, 64}) {
    for (const bool wide_table : {false, true}) {
      SCOPED_TRACE(concat("width ", width, " wide table ", wide_table));
      const ParityCase body = [&](const ParitySetting& on) -> std::vector<Tensor> {
        const Tensor table = wide_table ? on.wide_input({9, width}, 1) : on.input({9, width}, 1);
        const std::vector<int32_t> ids = random_ids(300, 9, 2);
        Tensor y = on.output({300, width});
        embedding_forward(y, on.indices(ids, {300}), table);
        return {y};
      };
      expect_parity(body, DType::f32, 0);
      expect_parity(body, DType::bf16, wide_table ? 1.0 / 256 : 0);
    }
  }
  const Tensor table = random_tensor({5, 8}, DType::bf16, 1);
  const Tensor ids = Tensor::from(std::vector<int32_t>{4, 0, 4});
  Tensor y = Tensor::empty({3, 8}, DType::f32, kCuda), expected = Tensor::empty({3, 8}, DType::f32);
  embedding_forward(y, ids.to(kCuda), table.to(kCuda));
  embedding_forward(expected, ids, table);
  EXPECT_EQ(y.to_vector<float>(), expected.to_vector<float>());
}

// The CPU adds in f32 in the order of positions. The bits must be equal, also for a group that is found by the search (2100
// positions of one id), and for one as long as a list.
TEST(CudaEmbeddingTest, GradientsHaveTheBitsOfTheCpu) {
  struct Case {
    int64_t count, width, vocabulary, repeated;
  };
  for (const Case& c : {Case{1, 3, 5, 0}, Case{130, 24, 17, 0}, Case{700, 9, 300, 0}, Case{2500, 4, 6, 2100},
                        Case{1100, 8, 40, 1024}, Case{40, 1040, 9, 0}}) {
    std::vector<int32_t> values = random_ids(c.count, c.vocabulary, 3);
    for (int64_t i = 0; i < c.repeated; ++i) values[size_t(i + i / 8 < c.count ? i + i / 8 : i)] = 2;
    const Tensor ids = Tensor::from(values);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const GradientMode mode : {GradientMode::overwrite, GradientMode::accumulate}) {
        SCOPED_TRACE(concat(c.count, " of width ", c.width, ' ', dtype, " accumulate ", mode == GradientMode::accumulate));
        const Tensor dy = random_tensor({c.count, c.width}, dtype, 4),
                     start = random_tensor({c.vocabulary, c.width}, DType::f32, 5);
        Tensor expected = start.clone();
        embedding_backward(expected, mode, dy, ids);
        const ParityCase body = [&](const ParitySetting& on) -> std::vector<Tensor> {
          Tensor d_table = start.clone().to(on.device);
          embedding_backward(d_table, mode, dy.to(on.device), ids.to(on.device));
          return {d_table};
        };
        EXPECT_EQ(run_on_cuda(body, dtype)[0].to_vector<float>(), expected.to_vector<float>());
      }
    }
  }
}

TEST(CudaEmbeddingTest, IdsOutsideTheVocabularyGiveNanRowsAndAddNowhere) {
  const Tensor table = random_tensor({4, 8}, DType::f32, 1);
  const Tensor ids = Tensor::from(std::vector<int32_t>{4, 3, -1, 1 << 30}).to(kCuda);
  Tensor y = Tensor::empty({4, 8}, DType::bf16, kCuda);
  embedding_forward(y, ids, table.to(kCuda));
  const std::vector<double> rows = values_of(y.to(Device{}));
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(std::isnan(rows[i]), i / 8 != 1);
  Tensor d_table = table.to(kCuda);
  embedding_backward(d_table, GradientMode::overwrite, Tensor::full({4, 8}, 1, DType::f32, kCuda), ids);
  const std::vector<float> sums = d_table.to_vector<float>();
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(sums[i], i / 8 == 3 ? 1 : 0);
}

TEST(CudaEmbeddingTest, NoPositionsZeroTheGradient) {
  Tensor d_table = Tensor::full({3, 2}, 7, DType::f32, kCuda), none = Tensor::empty({0, 2}, DType::f32, kCuda);
  const Tensor ids = Tensor::empty({0}, DType::i32, kCuda);
  embedding_forward(none, ids, d_table);
  embedding_backward(d_table, GradientMode::accumulate, none, ids);
  EXPECT_EQ(d_table.to_vector<float>(), std::vector<float>(6, 7));
  embedding_backward(d_table, GradientMode::overwrite, none, ids);
  EXPECT_EQ(d_table.to_vector<float>(), std::vector<float>(6, 0));
}

}  // namespace
}  // namespace echo
