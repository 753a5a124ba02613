#include "kernels/swiglu.h"
#include "tests/kernels/cuda_parity.h"

namespace echo {
namespace {

std::vector<Tensor> forward_and_backward(const ParitySetting& on, int64_t rows, int64_t width) {
  const Tensor gate_up = on.input({rows, 2 * width}, 1, 3), dy = on.input({rows, width}, 2);
  Tensor y = on.output({rows, width}), d_gate_up = on.output({rows, 2 * width});
  kernels::swiglu_forward(y, gate_up);
  kernels::swiglu_backward(d_gate_up, dy, gate_up);
  return {y, d_gate_up};
}

// f32: five roundings of a value and the exponential's two units. bf16: the result's 8 bits.
TEST(CudaSwigluTest, AgreesWithF64OnTheCpu) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {3, 37}, {5, 64}, {2, 1030}, {7, 256}, {0, 8}}) {
    SCOPED_TRACE(concat(rows, " x ", width));
    const ParityCase body = [rows = rows, width = width](const ParitySetting& on) {
      return forward_and_backward(on, rows, width);
    };
    expect_parity(body, DType::f32, 1e-6);
    expect_parity(body, DType::bf16, 1.0 / 256);
  }
}

TEST(CudaSwigluTest, LargeGatesSaturate) {
  const Tensor gate_up = Tensor::from(std::vector<float>{-1000, -100, 100, 1000, 1, 1, 1, 1}, {1, 8}).to(kCuda);
  Tensor y = Tensor::empty({1, 4}, DType::f32, kCuda), d_gate_up = Tensor::empty_like(gate_up);
  kernels::swiglu_forward(y, gate_up);
  kernels::swiglu_backward(d_gate_up, Tensor::full({1, 4}, 1, DType::f32, kCuda), gate_up);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 0, 100, 1000}));
  EXPECT_EQ(d_gate_up.to_vector<float>(), (std::vector<float>{0, 0, 1, 1, 0, 0, 100, 1000}));
}

}  // namespace
}  // namespace echo
