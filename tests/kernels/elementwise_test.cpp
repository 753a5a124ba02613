#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};
// Half a unit in the last place, relative. add_scaled and similar operations round twice.
double precision(DType dtype) { return dtype == DType::f64 ? 0x1p-52 : dtype == DType::f32 ? 0x1p-23 : 0x1p-8; }

template <class Formula>
void expect_elements(const Tensor& y, Formula formula) {
  const std::vector<double> values = values_of(y);
  for (size_t i = 0; i < values.size(); ++i) {
    const double expected = formula(i);
    // Sums of values of size 1 to 10 that cancel. So the bound is relative to their size, not to that of the result.
    ASSERT_NEAR(values[i], expected, precision(y.dtype()) * (4 + std::abs(expected))) << "element " << i;
  }
}

TEST(ElementwiseTest, OperationsMatchTheirFormulas) {
  for (const DType dtype : kFloats) {
    for (const int64_t count : {1, 37, 70'001}) {  // the rest after whole vectors, and enough for several threads
      SCOPED_TRACE(concat(dtype, ' ', count));
      const Tensor a = random_tensor({count}, dtype, 1), b = random_tensor({count}, dtype, 2),
                   c = random_tensor({count}, dtype, 3);
      const std::vector<double> p = values_of(a), q = values_of(b), r = values_of(c);
      Tensor y = Tensor::empty({count}, dtype);
      kernels::add(y, a, b);
      expect_elements(y, [&](size_t i) { return p[i] + q[i]; });
      kernels::subtract(y, a, b);
      expect_elements(y, [&](size_t i) { return p[i] - q[i]; });
      kernels::multiply(y, a, b);
      expect_elements(y, [&](size_t i) { return p[i] * q[i]; });
      kernels::scale(y, a, -2.5);
      expect_elements(y, [&](size_t i) { return -2.5 * p[i]; });
      kernels::square(y, a);
      expect_elements(y, [&](size_t i) { return p[i] * p[i]; });
      kernels::tanh_forward(y, a);
      expect_elements(y, [&](size_t i) { return std::tanh(p[i]); });
      kernels::tanh_backward(y, a, b);
      expect_elements(y, [&](size_t i) { return p[i] * (1 - q[i] * q[i]); });
      y = a.clone();
      kernels::add(y, y, y);  // in place
      expect_elements(y, [&](size_t i) { return 2 * p[i]; });
      for (const DType other : kFloats) {
        y = c.clone();
        const Tensor x = kernels::cast(a, other);
        const std::vector<double> values = values_of(x);
        kernels::add_scaled(y, x, 0.5);
        expect_elements(y, [&](size_t i) { return r[i] + 0.5 * values[i]; });
      }
    }
  }
}

TEST(ElementwiseTest, BiasIsAddedToEveryRow) {
  const Tensor x = random_tensor({4, 3, 7}, DType::f64, 1), bias = random_tensor({7}, DType::f64, 2);
  Tensor y = Tensor::empty({4, 3, 7}, DType::f64);
  kernels::add_bias(y, x, bias);
  expect_elements(y, [&](size_t i) { return x.data<double>()[i] + bias.data<double>()[i % 7]; });
}

TEST(ElementwiseTest, WrongArgumentsAreNamed) {
  const Tensor a = Tensor::zeros({2, 3}, DType::f32);
  Tensor y = Tensor::empty({2, 3}, DType::f32);
  const auto message = [&](const Tensor& b) { return error_message(ExitCode::internal, [&] { kernels::add(y, a, b); }); };
  EXPECT_NE(message(Tensor::zeros({3, 2}, DType::f32)).find("(3, 2)"), std::string::npos);
  EXPECT_NE(message(Tensor::zeros({2, 3}, DType::f64)).find("f64"), std::string::npos);
  EXPECT_NE(message(Tensor()).find("undefined"), std::string::npos);
  EXPECT_NE(message(Tensor::zeros({3, 2}, DType::f32).transpose(0, 1)).find("not contiguous"), std::string::npos);
}

}  // namespace
}  // namespace echo
