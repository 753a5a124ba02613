#include "kernels/optimizer/adamw.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

using kernels::AdamWSettings;
using kernels::AdamWSpan;

// A part of a larger tensor that begins at `start`, so that it may be unaligned.
Tensor part(const ParitySetting& on, int64_t count, int64_t start, uint64_t seed) {
  return on.wide_input({count + start}, seed).narrow(0, start, count);
}

std::vector<Tensor> three_steps(const ParitySetting& on, const std::vector<int64_t>& counts, int64_t start,
                                bool with_compute_copy) {
  std::vector<AdamWSpan> spans;
  for (size_t i = 0; i < counts.size(); ++i) {
    const int64_t count = counts[i];
    AdamWSpan span{part(on, count, start, 10 * i), part(on, count, start, 10 * i + 1), part(on, count, 0, 10 * i + 2), Tensor(),
                   i % 2 == 0 ? 0.1 : 0.0};
    span.first_moment.fill_zero();
    span.second_moment = Tensor::zeros_like(span.first_moment);
    if (with_compute_copy && i % 3 != 1)
      span.compute_copy = Tensor::zeros({count + start}, DType::bf16, on.device).narrow(0, start, count);
    spans.push_back(span);
  }
  AdamWSettings settings{.learning_rate = 1e-2, .gradient_scale = 0.7};
  for (settings.step = 1; settings.step <= 3; ++settings.step) kernels::adamw(spans, settings);
  std::vector<Tensor> results;
  for (const AdamWSpan& span : spans) {
    for (const Tensor& tensor : {span.parameter, span.first_moment, span.second_moment}) results.push_back(tensor);
    if (!span.compute_copy.defined()) continue;
    EXPECT_EQ(values_of(span.compute_copy.to(Device{})), values_of(kernels::cast(span.parameter.to(Device{}), DType::bf16)));
  }
  return results;
}

// Three steps with about ten roundings of 2^-24 each, of numbers up to the largest.
TEST(CudaAdamWTest, TensorsOfVeryDifferentSizeAgreeWithTheCpu) {
  for (const bool with_compute_copy : {false, true}) {
    const ParityCase body = [&](const ParitySetting& on) {
      return three_steps(on, {1, 20'003, 0, 17, 8192, 64}, 0, with_compute_copy);
    };
    expect_parity(body, DType::f32, 2e-6);
  }
}

TEST(CudaAdamWTest, UnalignedTensorsAgreeToo) {
  const ParityCase body = [](const ParitySetting& on) { return three_steps(on, {5, 301, 8}, 3, true); };
  expect_parity(body, DType::f32, 2e-6);
}

TEST(CudaAdamWTest, MoreTensorsThanALaunchTakes) {
  std::vector<int64_t> counts;
  for (int64_t i = 0; i < 62; ++i) counts.push_back(1 + i % 7);
  const ParityCase body = [&](const ParitySetting& on) { return three_steps(on, counts, 0, true); };
  expect_parity(body, DType::f32, 2e-6);
}

TEST(CudaAdamWTest, NothingAtAllIsFineAndF64AndTwoDevicesAreRefused) {
  kernels::adamw({}, {});
  const auto span_on = [](DType dtype, Device device) {
    const auto zeros = [&] { return Tensor::zeros({4}, dtype, device); };
    return AdamWSpan{zeros(), zeros(), zeros(), zeros()};
  };
  EXPECT_THROW(kernels::adamw(std::vector{span_on(DType::f64, kCuda)}, {}), Error);
  EXPECT_THROW(kernels::adamw(std::vector{span_on(DType::f32, kCuda), span_on(DType::f32, Device{})}, {}), Error);
}

}  // namespace
}  // namespace echo
