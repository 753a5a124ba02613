// Time of the attention kernels: forward, a follower's forward, and the backward pass of blocks of 1, 3 and 5 layers.
//   attention_benchmark [dtype: f32 | bf16] [seconds per measurement, default 0.3]
// GFLOP/s count the products that the method needs on the lower triangle, T (T + 1) / 2 pairs of positions: 2 for a forward
// pass, and 3k + 2 for the backward pass of k layers (2 per follower, k + 4 for the leader). Each product has 2 Dh operations
// per pair.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/random.h"
#include "base/thread_waiting.h"
#include "kernels/attention/attention.h"

namespace echo {
namespace {

struct Sizes {
  int64_t batches, positions, heads, key_heads, width;
};

template <class T>
Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor result = Tensor::empty(shape, dtype_of<T>);
  const Philox philox(seed);
  for (int64_t i = 0; i < shape.elements(); ++i) result.data<T>()[i] = T(float(philox.uniform(uint64_t(i)) * 2 - 1));
  return result;
}

// The median time of calls during about `seconds`, in seconds. Other programs on the machine would disturb a mean.
template <class Body>
double time_of(double seconds, Body&& body) {
  using Clock = std::chrono::steady_clock;
  body();
  std::vector<double> times;
  const auto begin = Clock::now();
  while (times.size() < 3 || std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
    const auto start = Clock::now();
    body();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(times.size() / 2), times.end());
  return times[times.size() / 2];
}

template <class T>
void measure(const Sizes& sizes, double seconds) {
  const auto [B, length, H, Hkv, Dh] = sizes;
  const Tensor fused = random_tensor<T>({B, length, H + 2 * Hkv, Dh}, 1);
  const Tensor q = fused.narrow(2, 0, H), k = fused.narrow(2, H, Hkv), v = fused.narrow(2, H + Hkv, Hkv);
  const double scale = 1 / std::sqrt(double(Dh)), product = double(B * H) * double(length) * double(length + 1) * double(Dh);
  Tensor o = Tensor::zeros({B, length, H, Dh}, dtype_of<T>);
  Tensor lse = Tensor::zeros({B, H, length}, DType::f32), delta = Tensor::zeros_like(lse);
  Tensor d_fused = Tensor::zeros_like(fused);
  Tensor dq = d_fused.narrow(2, 0, H), dk = d_fused.narrow(2, H, Hkv), dv = d_fused.narrow(2, H + Hkv, Hkv);
  std::printf("B %ld T %ld H %ld Hkv %ld Dh %ld %s\n", long(B), long(length), long(H), long(Hkv), long(Dh),
              dtype_of<T> == DType::f32 ? "f32" : "bf16");
  const auto report = [&](const std::string& name, double products, double time) {
    std::printf("  %-24s %9.3f ms  %7.1f GFLOP/s\n", name.c_str(), time * 1e3, products * product / time * 1e-9);
    std::fflush(stdout);
  };
  report("forward", 2, time_of(seconds, [&] { kernels::attention_forward(o, lse, q, k, v, {}, scale); }));
  report("follower forward", 2, time_of(seconds, [&] { kernels::shared_attention_forward(o, q, k, lse, v, {}, scale); }));
  const Tensor d_o = random_tensor<T>({B, length, H, Dh}, 2);
  report("delta", 0, time_of(seconds, [&] { kernels::attention_delta(delta, d_o, o); }));
  report("follower backward", 2, time_of(seconds, [&] { kernels::attention_value_backward(dv, d_o, q, k, lse, {}, scale); }));
  for (const int count : {1, 3, 5}) {
    const std::vector<kernels::SharingLayer> layers(size_t(count), {d_o, v});
    const double time = time_of(seconds, [&] {
      delta.fill_zero();
      for (int j = 0; j < count; ++j) {
        kernels::attention_delta(delta, d_o, o);
        if (j > 0) kernels::attention_value_backward(dv, d_o, q, k, lse, {}, scale);
      }
      kernels::attention_backward(dq, dk, dv, layers, q, k, lse, delta, {}, scale);
    });
    report("backward, block of " + std::to_string(count), 3 * count + 2, time);
  }
}

}  // namespace
}  // namespace echo

int main(int argc, char** argv) {
  echo::shorten_thread_waiting(argv);
  using namespace echo;
  const bool bf16 = argc > 1 && std::strcmp(argv[1], "bf16") == 0;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.3;
  for (const Sizes& sizes :
       {Sizes{8, 256, 8, 4, 16}, Sizes{2, 256, 12, 12, 64}, Sizes{1, 1024, 32, 4, 64}, Sizes{1, 2048, 32, 4, 64}}) {
    if (bf16)
      measure<bfloat16>(sizes, seconds);
    else
      measure<float>(sizes, seconds);
  }
}
