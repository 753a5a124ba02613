#include "kernels/optimizer/square_sums.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr int64_t kLength = kernels::kSquareSumLength;

TEST(SquareSumsTest, EachGroupIsTheSumOfItsSquares) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor values = random_tensor({2 * kLength + 5}, dtype, 1);
    const std::vector<double> sums = kernels::square_sums(values).to_vector<double>();
    ASSERT_EQ(sums.size(), 3u);
    for (int64_t group = 0; group < 3; ++group) {
      double expected = 0;
      dispatch_float(dtype, [&]<class T>() {
        for (int64_t i = group * kLength; i < std::min(values.elements(), (group + 1) * kLength); ++i)
          expected += double(values.data<T>()[i]) * double(values.data<T>()[i]);
      });
      EXPECT_NEAR(sums[size_t(group)], expected, 1e-13 * expected);  // f64, another order of 1024 terms
    }
  }
  EXPECT_EQ(kernels::square_sums(Tensor::empty({0}, DType::f32)).elements(), 0);
}

TEST(SquareSumsTest, AnArrayThatIsCutBetweenGroupsGivesTheSameBits) {
  const Tensor values = random_tensor({5 * kLength}, DType::f32, 2);
  const std::vector<double> whole = kernels::square_sums(values).to_vector<double>();
  std::vector<double> joined;
  for (const int64_t begin : {int64_t{0}, 2 * kLength})
    for (const double sum :
         kernels::square_sums(values.narrow(0, begin, begin == 0 ? 2 * kLength : 3 * kLength).clone()).to_vector<double>())
      joined.push_back(sum);
  EXPECT_EQ(joined, whole);
}

TEST(SquareSumsTest, OtherTensorsAreRefused) {
  expect_check_fails("square_sums: bf16", [] { kernels::square_sums(Tensor::zeros({4}, DType::bf16)); });
  expect_check_fails("square_sums: f32 (2, 2)", [] { kernels::square_sums(Tensor::zeros({2, 2}, DType::f32)); });
}

}  // namespace
}  // namespace echo
