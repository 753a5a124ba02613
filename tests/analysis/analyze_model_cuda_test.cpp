#include <gtest/gtest.h>

#include "analysis/analyze_model.h"
#include "tests/training/tiny_run.h"

namespace echo {
namespace {

Analysis analysis_on(Device device) {
  const TinyInputs& inputs = tiny_inputs();
  AnalyzeOptions options{.model = inputs.teacher, .data = inputs.corpus, .samples = 3, .sequence_length = 40, .device = device};
  Analysis analysis = analyze_model(options, [](int64_t, int64_t) {});
  make_plans(analysis);
  return analysis;
}

TEST(CudaAnalyzeModelTest, EveryVariantIsWhatTheCpuMeasures) {
  const Analysis cpu = analysis_on(Device{}), gpu = analysis_on({DeviceKind::cuda, 0});
  ASSERT_EQ(gpu.samples, 3);
  ASSERT_EQ(gpu.layers(), 4);
  double smallest = 1;
  for (const SimilarityVariant variant : kSimilarityVariants) {
    ASSERT_TRUE(cpu[variant] && gpu[variant]) << variant_name(variant);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) {
        // Both are f32: 2^-24 per rounding, with some dozens of roundings through four layers.
        EXPECT_NEAR(gpu[variant]->mean(i, j), cpu[variant]->mean(i, j), 1e-6) << variant_name(variant) << ' ' << i << ' ' << j;
        smallest = std::min(smallest, cpu[variant]->mean(i, j));
      }
  }
  EXPECT_LT(smallest, 0.9) << "layers that are all alike show nothing";
  EXPECT_EQ(gpu.ranking.ranking, cpu.ranking.ranking);
}

}  // namespace
}  // namespace echo
