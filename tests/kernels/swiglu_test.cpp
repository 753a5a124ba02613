#include "kernels/swiglu.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using kernels::swiglu_backward;
using kernels::swiglu_forward;

constexpr DType kFloats[] = {DType::f64, DType::f32, DType::bf16};

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// Relative to values up to 10: f32 keeps 1e-6 of each (its exponential is good to 1.5e-7), bf16 8 bits.
double tolerance(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 0.05; }

TEST(SwigluTest, ForwardAndBackwardMatchTheFormula) {
  const int64_t rows = 6, width = 11;
  for (const DType dtype : kFloats) {
    const Tensor gate_up = random_tensor({2, 3, 2 * width}, dtype, 1, 2.0), dy = random_tensor({2, 3, width}, dtype, 2);
    Tensor y = Tensor::empty_like(dy), d_gate_up = Tensor::empty_like(gate_up);
    swiglu_forward(y, gate_up);
    swiglu_backward(d_gate_up, dy, gate_up);
    const std::vector<double> in = values_of(gate_up), g = values_of(dy), out = values_of(y), d = values_of(d_gate_up);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < width; ++i) {
        const size_t gate = size_t(row * 2 * width + i), up = gate + size_t(width), place = size_t(row * width + i);
        const double z = in[gate], s = sigmoid(z);
        EXPECT_NEAR(out[place], z * s * in[up], tolerance(dtype)) << dtype;
        EXPECT_NEAR(d[gate], g[place] * in[up] * (s + z * s * (1 - s)), tolerance(dtype)) << dtype;
        EXPECT_NEAR(d[up], g[place] * z * s, tolerance(dtype)) << dtype;
      }
    }
  }
}

TEST(SwigluTest, ExtremeGatesStayFinite) {
  for (const DType dtype : kFloats) {
    const Tensor gate_up =
        kernels::cast(Tensor::from(std::vector<double>{-1e4, -90, -88, 88, 90, 1e4, 1, 1, 1, 1, 1, 1}, {1, 12}), dtype);
    const Tensor dy = Tensor::full({1, 6}, 1, dtype);
    Tensor y = Tensor::empty_like(dy), d_gate_up = Tensor::empty_like(gate_up);
    swiglu_forward(y, gate_up);
    swiglu_backward(d_gate_up, dy, gate_up);
    const std::vector<double> out = values_of(y), d = values_of(d_gate_up);
    for (size_t i = 0; i < 6; ++i) {
      const bool positive = i >= 3;
      EXPECT_NEAR(out[i], positive ? values_of(gate_up)[i] : 0, 1e-30);
      EXPECT_NEAR(d[i], positive ? 1 : 0, 1e-30);
    }
  }
}

TEST(SwigluTest, ResultsHaveTheSameBitsOnAnyNumberOfThreads) {
  const Tensor gate_up = random_tensor({301, 128}, DType::f32, 1), dy = random_tensor({301, 64}, DType::f32, 2);
  expect_same_bits_on_any_number_of_threads([&] {
    Tensor y = Tensor::empty_like(dy), d_gate_up = Tensor::empty_like(gate_up);
    swiglu_forward(y, gate_up);
    swiglu_backward(d_gate_up, dy, gate_up);
    return std::vector{y.to_vector<float>(), d_gate_up.to_vector<float>()};
  });
}

TEST(SwigluTest, WhatDoesNotFitIsRefused) {
  const auto refused = [](const Shape& gate_up, const Shape& y, DType dtype) {
    Tensor result = Tensor::zeros(y, dtype);
    return error_message(ExitCode::internal, [&] { swiglu_forward(result, Tensor::zeros(gate_up, DType::f32)); });
  };
  EXPECT_NE(refused({3, 5}, {3, 2}, DType::f32).find("gate_up is f32 (3, 5), expected contiguous (..., 2F)"),
            std::string::npos);
  EXPECT_NE(refused({3, 4}, {3, 4}, DType::f32).find("y is f32 (3, 4), gate_up is f32 (3, 4)"), std::string::npos);
  EXPECT_NE(refused({3, 4}, {3, 2}, DType::bf16).find("y is bf16"), std::string::npos);
  Tensor none = Tensor::zeros({0, 4}, DType::f32), empty = Tensor::zeros({0, 2}, DType::f32);
  swiglu_forward(empty, none);
  swiglu_backward(none, empty, none);
}

}  // namespace
}  // namespace echo
