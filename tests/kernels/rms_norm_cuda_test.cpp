#include "kernels/rms_norm.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

struct Case {
  int64_t rows, width;
  bool with_residual;
};

std::vector<Tensor> forward_and_backward(const ParitySetting& on, const Case& c) {
  const Tensor x = on.input({c.rows, c.width}, 1), delta = on.input({c.rows, c.width}, 2), weight = on.wide_input({c.width}, 3);
  const Tensor dy = on.input({c.rows, c.width}, 4), d_sum = on.input({c.rows, c.width}, 5);
  Tensor sum = on.output(x.shape()), y = on.output(x.shape()), inverse_rms = on.wide_output({c.rows});
  Tensor dx = on.output(x.shape()), dweight = on.wide_input({c.width}, 6);
  if (c.with_residual) {
    kernels::add_rms_norm_forward(sum, y, inverse_rms, x, delta, weight, 1e-5);
    kernels::rms_norm_backward(dx, dweight, GradientMode::accumulate, dy, d_sum, x, weight, inverse_rms);
    return {sum, y, inverse_rms, dx, dweight};
  }
  kernels::rms_norm_forward(y, inverse_rms, x, weight, 1e-5);
  kernels::rms_norm_backward(dx, dweight, GradientMode::overwrite, dy, Tensor(), x, weight, inverse_rms);
  return {y, inverse_rms, dx, dweight};
}

// f32: sums of up to 2048 terms in f32. bf16: outputs are rounded to 8 bits, half an ulp of a value is at most 2^-9 of the largest;
// the sum before the norm is rounded too, and the norm sees the rounded one.
TEST(CudaRmsNormTest, AgreesWithF64OnTheCpu) {
  for (const Case& c : {Case{1, 1, true}, Case{3, 37, false}, Case{5, 64, true}, Case{67, 128, true}, Case{9, 2048, false}}) {
    SCOPED_TRACE(concat(c.rows, " x ", c.width));
    const ParityCase body = [&c](const ParitySetting& on) { return forward_and_backward(on, c); };
    expect_parity(body, DType::f32, 2e-6);
    expect_parity(body, DType::bf16, 1.0 / 128);
  }
}

}  // namespace
}  // namespace echo
