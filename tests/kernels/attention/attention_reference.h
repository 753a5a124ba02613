#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace echo {

// Attention of a block of layers with all matrices stored, in f64: the reference for the tiled kernels. Arrays are row-major:
// q, o, d_o, dq (B, T, H, Dh); k, v, dk, dv (B, T, Hkv, Dh); lse, delta (B, H, T). `round` is applied to each stored
// intermediate result. With rounding to bf16 it is the simple version of a bf16 computation.
struct ReferenceAttention {
  int64_t batches = 1, positions = 1, heads = 1, key_heads = 1, width = 1;
  double scale = 1;
  std::vector<double> q, k;
  std::vector<std::vector<double>> v, d_o;  // one per layer
  std::vector<int32_t> first_key;           // (B, T), or empty

  std::vector<std::vector<double>> o, dv;
  std::vector<double> lse, delta, dq, dk;

  template <class Round>
  void run(Round round) {
    const size_t layers = v.size();
    const auto query = [&](int64_t b, int64_t t, int64_t h, int64_t d) {
      return size_t(((b * positions + t) * heads + h) * width + d);
    };
    const auto key = [&](int64_t b, int64_t t, int64_t h, int64_t d) {
      return size_t(((b * positions + t) * key_heads + h) * width + d);
    };
    o.assign(layers, std::vector<double>(q.size()));
    dv.assign(layers, std::vector<double>(k.size()));
    dq.assign(q.size(), 0);
    dk.assign(k.size(), 0);
    lse.assign(size_t(batches * heads * positions), 0);
    delta = lse;
    const size_t n = size_t(positions);
    std::vector<double> p(n * n), dp(n * n);
    for (int64_t b = 0; b < batches; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t g = h / (heads / key_heads);
        const auto seen = [&](int64_t t) { return first_key.empty() ? 0 : int64_t(first_key[size_t(b * positions + t)]); };
        std::fill(p.begin(), p.end(), 0.0);
        std::fill(dp.begin(), dp.end(), 0.0);
        for (int64_t t = 0; t < positions; ++t) {
          double* row = &p[size_t(t) * n];
          double highest = -INFINITY, sum = 0;
          for (int64_t s = seen(t); s <= t; ++s) {
            double score = 0;
            for (int64_t d = 0; d < width; ++d) score += q[query(b, t, h, d)] * k[key(b, s, g, d)];
            row[s] = round(score * scale);
            highest = std::max(highest, row[s]);
          }
          for (int64_t s = seen(t); s <= t; ++s) sum += std::exp(row[s] - highest);
          const size_t statistics = size_t((b * heads + h) * positions + t);
          lse[statistics] = highest + std::log(sum);
          for (int64_t s = seen(t); s <= t; ++s) row[s] = round(std::exp(row[s] - lse[statistics]));
          for (size_t j = 0; j < layers; ++j) {
            for (int64_t d = 0; d < width; ++d) {
              double value = 0;
              for (int64_t s = seen(t); s <= t; ++s) value += row[s] * v[j][key(b, s, g, d)];
              o[j][query(b, t, h, d)] = round(value);
              delta[statistics] += d_o[j][query(b, t, h, d)] * o[j][query(b, t, h, d)];
            }
            for (int64_t s = seen(t); s <= t; ++s) {
              double product = 0;
              for (int64_t d = 0; d < width; ++d) {
                product += d_o[j][query(b, t, h, d)] * v[j][key(b, s, g, d)];
                dv[j][key(b, s, g, d)] += row[s] * d_o[j][query(b, t, h, d)];
              }
              dp[size_t(t) * n + size_t(s)] += round(product);
            }
          }
          for (int64_t s = seen(t); s <= t; ++s) {
            const double ds = round(row[s] * (dp[size_t(t) * n + size_t(s)] - delta[statistics]));
            for (int64_t d = 0; d < width; ++d) {
              dq[query(b, t, h, d)] += scale * ds * k[key(b, s, g, d)];
              dk[key(b, s, g, d)] += scale * ds * q[query(b, t, h, d)];
            }
          }
        }
      }
    }
    for (auto* gradient : {&dq, &dk})
      for (double& value : *gradient) value = round(value);
    for (auto& gradient : dv)
      for (double& value : gradient) value = round(value);
  }
  void run() {
    run([](double value) { return value; });
  }
};

// The largest difference, relative to the largest expected entry, or to 0.1 if that is larger. Inputs have size 1, and where
// the result is zero (gradients of a position with a single score), their rounding remains.
inline double distance(const std::vector<double>& actual, const std::vector<double>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double difference = 0, largest = 0.1;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(actual[i])) return INFINITY;
    difference = std::max(difference, std::abs(actual[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference / largest;
}

}  // namespace echo
