#include "kernels/rms_norm.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

struct Case {
  int64_t rows, width;
  bool with_residual, narrow_weight = false;
};

std::vector<Tensor> forward_and_backward(const ParitySetting& on, const Case& c) {
  const Tensor x = on.input({c.rows, c.width}, 1), delta = on.input({c.rows, c.width}, 2),
               weight = c.narrow_weight ? on.input({c.width}, 3) : on.wide_input({c.width}, 3);
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

// f32: sums of up to 2048 terms in f32. bf16: outputs are rounded to 8 bits, and half an ulp is at most 2^-9 of the largest
// value. The sum before the norm is rounded too, and the norm uses the rounded sum.
TEST(CudaRmsNormTest, AgreesWithF64OnTheCpu) {
  for (const Case& c : {Case{1, 1, true}, Case{3, 37, false}, Case{5, 64, true}, Case{67, 128, true}, Case{9, 2048, false}}) {
    SCOPED_TRACE(concat(c.rows, " x ", c.width));
    const ParityCase body = [&c](const ParitySetting& on) { return forward_and_backward(on, c); };
    expect_parity(body, DType::f32, 2e-6);
    expect_parity(body, DType::bf16, 1.0 / 128);
  }
}

// Every way to hold a row: the registers of a warp or of a block, and rows that are too long. With 650 rows, a block gets more
// than one turn. Tolerances as above.
TEST(CudaRmsNormTest, RowsOfEveryLengthAgree) {
  for (const Case& c :
       {Case{21, 8, false}, Case{150, 16, true}, Case{19, 512, true}, Case{9, 1032, true}, Case{110, 2056, true},
        Case{11, 2048, true}, Case{3, 4096, false}, Case{2, 8192, true}, Case{2, 8200, true}}) {
    SCOPED_TRACE(concat(c.rows, " x ", c.width));
    const ParityCase body = [&c](const ParitySetting& on) { return forward_and_backward(on, c); };
    expect_parity(body, DType::f32, 4e-6);
    expect_parity(body, DType::bf16, 1.0 / 128);
  }
}

TEST(CudaRmsNormTest, WeightsOfEitherDtypeAreRead) {
  for (const int64_t width : {7, 64, 2048}) {
    const Case c{5, width, true, true};
    const ParityCase body = [&c](const ParitySetting& on) { return forward_and_backward(on, c); };
    expect_parity(body, DType::bf16, 1.0 / 128);
    const ParityCase wide = [&](const ParitySetting& on) -> std::vector<Tensor> {
      const Tensor weight =
          on.device.is_cpu() ? random_tensor({width}, DType::bf16, 3) : random_tensor({width}, DType::bf16, 3).to(kCuda);
      Tensor y = on.output({5, width}), inverse_rms = on.wide_output({5});
      kernels::rms_norm_forward(y, inverse_rms, on.input({5, width}, 1), weight, 1e-5);
      return {y};
    };
    expect_parity(wide, DType::f32, 4e-6);
  }
}

TEST(CudaRmsNormTest, NoRowsGiveNoGradientAndTheGradientOfTheWeightMayBeLeftOut) {
  for (const int64_t width : {5, 64}) {
    Tensor empty = Tensor::empty({0, width}, DType::f32, kCuda), none = Tensor::empty({0}, DType::f32, kCuda);
    const Tensor weight = random_tensor({width}, DType::f32, 1).to(kCuda);
    Tensor dweight = random_tensor({width}, DType::f32, 2).to(kCuda);
    kernels::rms_norm_forward(empty, none, empty, weight, 1e-5);
    kernels::rms_norm_backward(empty, dweight, GradientMode::overwrite, empty, Tensor(), empty, weight, none);
    EXPECT_EQ(dweight.to_vector<float>(), std::vector<float>(size_t(width), 0.0f));
    const ParityCase body = [width](const ParitySetting& on) -> std::vector<Tensor> {
      Tensor dx = on.output({3, width}), not_wanted;
      kernels::rms_norm_backward(dx, not_wanted, GradientMode::overwrite, on.input({3, width}, 1), Tensor(),
                                 on.input({3, width}, 2), on.wide_input({width}, 3), on.wide_input({3}, 4));
      return {dx};
    };
    expect_parity(body, DType::f32, 2e-6);
  }
}

}  // namespace
}  // namespace echo
