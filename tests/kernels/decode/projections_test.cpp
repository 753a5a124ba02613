#include "kernels/decode/projections.h"

#include <gtest/gtest.h>

#include "tests/kernels/random_tensor.h"

namespace echo {
namespace {

using kernels::NormedRows;
using kernels::RopeTable;

constexpr double kEps = 0.3;  // large enough to count

// RMSNorm(x) W^T by its formula, one row after another.
std::vector<double> projected(const NormedRows& rows, const Tensor& weight) {
  const std::vector<double> x = values_of(rows.residual), norm = values_of(rows.weight), w = values_of(weight);
  const size_t batch = size_t(rows.residual.dim(0)), width = size_t(rows.residual.dim(1)), columns = size_t(weight.dim(0));
  std::vector<double> y;
  for (size_t b = 0; b < batch; ++b) {
    double squares = 0;
    for (size_t d = 0; d < width; ++d) squares += x[b * width + d] * x[b * width + d];
    const double inverse = 1 / std::sqrt(squares / double(width) + rows.eps);
    for (size_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (size_t d = 0; d < width; ++d) sum += x[b * width + d] * inverse * norm[d] * w[n * width + d];
      y.push_back(sum);
    }
  }
  return y;
}

NormedRows some_rows(int64_t batch, int64_t width) {
  return {random_tensor({batch, width}, DType::f64, 1), random_tensor({width}, DType::f64, 2), kEps};
}

TEST(DecodeProjectionTest, HeadsAreTurnedAndGoWhereTheyBelong) {
  constexpr int64_t H = 4, Hkv = 2, Dh = 6, kCapacity = 5, kBatch = 3;
  const NormedRows x = some_rows(kBatch, 10);
  const Tensor weight = random_tensor({(H + 2 * Hkv) * Dh, 10}, DType::f64, 3);
  const RopeTable table{random_tensor({kCapacity, Dh / 2}, DType::f64, 4), random_tensor({kCapacity, Dh / 2}, DType::f64, 5)};
  const std::vector<int32_t> lengths = {5, 1, 3};
  Tensor q = Tensor::empty({kBatch, (H + 2 * Hkv) * Dh}, DType::f64);
  Tensor k_cache = Tensor::full({kBatch, kCapacity, Hkv, Dh}, -7, DType::f64), v_cache = k_cache.clone(),
         values = k_cache.clone();
  kernels::project_heads(q, k_cache, v_cache, x, weight, table, Tensor::from(lengths));
  kernels::project_values(values, x, weight.narrow(0, (H + Hkv) * Dh, Hkv * Dh), Tensor::from(lengths));
  EXPECT_EQ(values.to_vector<double>(), v_cache.to_vector<double>());

  const std::vector<double> expected = projected(x, weight), cosine = values_of(table.cosine), sine = values_of(table.sine);
  for (int64_t b = 0; b < kBatch; ++b) {
    const int64_t position = lengths[size_t(b)] - 1;
    for (int64_t head = 0; head < H + 2 * Hkv; ++head)
      for (int64_t d = 0; d < Dh; ++d) {
        const int64_t pair = d % (Dh / 2);
        const auto at = [&](int64_t element) { return expected[size_t((b * (H + 2 * Hkv) + head) * Dh + element)]; };
        const double c = cosine[size_t(position * Dh / 2 + pair)], s = sine[size_t(position * Dh / 2 + pair)];
        const double turned = d < Dh / 2 ? at(pair) * c - at(pair + Dh / 2) * s : at(pair + Dh / 2) * c + at(pair) * s;
        const auto in = [&](const Tensor& cache, int64_t of) {
          return cache.data<double>()[((b * kCapacity + position) * Hkv + of) * Dh + d];
        };
        const double actual = head < H         ? q.data<double>()[b * q.stride(0) + head * Dh + d]
                              : head < H + Hkv ? in(k_cache, head - H)
                                               : in(v_cache, head - H - Hkv);
        EXPECT_NEAR(actual, head < H + Hkv ? turned : at(d), 1e-12) << b << ' ' << head << ' ' << d;
      }
  }
  int64_t untouched = 0;
  for (const double value : k_cache.to_vector<double>()) untouched += value == -7;
  EXPECT_EQ(untouched, kBatch * (kCapacity - 1) * Hkv * Dh);
}

TEST(DecodeProjectionTest, GateAndUpMeet) {
  const NormedRows x = some_rows(2, 7);
  const Tensor weight = random_tensor({2 * 9, 7}, DType::f64, 3);
  Tensor y = Tensor::empty({2, 9}, DType::f64);
  kernels::project_gated(y, x, weight);
  const std::vector<double> both = projected(x, weight);
  for (size_t b = 0; b < 2; ++b)
    for (size_t i = 0; i < 9; ++i) {
      const double gate = both[b * 18 + i], up = both[b * 18 + 9 + i];
      EXPECT_NEAR(y.data<double>()[b * 9 + i], gate / (1 + std::exp(-gate)) * up, 1e-12);
    }
}

TEST(DecodeProjectionTest, AProjectionIsAddedToTheStream) {
  const Tensor before = random_tensor({2, 5}, DType::f64, 1), y = random_tensor({2, 8}, DType::f64, 2),
               weight = random_tensor({5, 8}, DType::f64, 3);
  Tensor x = before.clone();
  kernels::project_onto(x, y, weight);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t n = 0; n < 5; ++n) {
      double sum = before.data<double>()[b * 5 + n];
      for (int64_t k = 0; k < 8; ++k) sum += y.data<double>()[b * 8 + k] * weight.data<double>()[n * 8 + k];
      EXPECT_NEAR(x.data<double>()[b * 5 + n], sum, 1e-12);
    }
}

TEST(DecodeProjectionTest, WhatDoesNotFitIsRefused) {
  const NormedRows x = some_rows(2, 8);
  const Tensor lengths = Tensor::from(std::vector<int32_t>{1, 1});
  Tensor y = Tensor::zeros({2, 6}, DType::f64), cache = Tensor::zeros({2, 3, 1, 4}, DType::f64), stream = x.residual.clone();
  EXPECT_THROW(kernels::project_gated(y, x, Tensor::zeros({10, 8}, DType::f64)), Error);
  EXPECT_THROW(kernels::project_gated(y, x, Tensor::zeros({12, 8}, DType::f32)), Error);
  EXPECT_THROW(
      kernels::project_gated(y, {x.residual, Tensor::zeros({7}, DType::f64), kEps}, Tensor::zeros({12, 8}, DType::f64)), Error);
  EXPECT_THROW(kernels::project_values(cache, x, Tensor::zeros({6, 8}, DType::f64), lengths), Error);
  EXPECT_THROW(kernels::project_values(cache, x, Tensor::zeros({4, 8}, DType::f64), Tensor::from(std::vector<int32_t>{1})),
               Error);
  EXPECT_THROW(kernels::project_onto(stream, y, Tensor::zeros({8, 5}, DType::f64)), Error);
  const RopeTable short_table{Tensor::zeros({2, 2}, DType::f64), Tensor::zeros({2, 2}, DType::f64)};
  Tensor projected_heads = Tensor::zeros({2, 12}, DType::f64), v_cache = cache.clone();
  EXPECT_THROW(
      kernels::project_heads(projected_heads, cache, v_cache, x, Tensor::zeros({12, 8}, DType::f64), short_table, lengths),
      Error);
}

}  // namespace
}  // namespace echo
