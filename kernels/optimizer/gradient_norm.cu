// The norm of all gradients on a GPU. One launch covers up to kMostTensors tensors. Their addresses are a kernel parameter, so
// nothing is copied to the device first. A block owns a slice of one tensor (kernels/cuda/sums.cuh), and a thread owns every
// kSumThreads-th vector of it. Every gradient is read once. 8 bytes are written per slice of 32768 elements.
#include <cmath>

#include "kernels/cuda/many_tensors.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/optimizer/gradient_norm.h"

namespace echo::kernels::cuda {
namespace {

constexpr int kMostTensors = 160;

struct Table {
  const void* data[kMostTensors];
  int64_t count[kMostTensors];
  int32_t first_slice[kMostTensors];  // slices of earlier tensors in this launch
  uint8_t is_bf16[kMostTensors];
  int32_t tensors = 0;
  int32_t slices = 0;
};
static_assert(sizeof(Table) <= 4000, "a kernel's parameters are limited to 4 KiB");

__global__ void __launch_bounds__(kSumThreads) square_slices(double* slices, const __grid_constant__ Table table) {
  __shared__ double scratch[kSumThreads / kWarp];
  const int slice = int(blockIdx.x);
  const int tensor = tensor_of_slice(table.first_slice, table.tensors, slice);
  const int64_t begin = int64_t(slice - table.first_slice[tensor]) * kSumSlice;
  const int64_t count = min(kSumSlice, table.count[tensor] - begin);
  double total;
  if (table.is_bf16[tensor]) {
    const bfloat16* data = static_cast<const bfloat16*>(table.data[tensor]) + begin;
    total = slice_sum<SumOf::squares>(data, count, scratch);
  } else {
    const float* data = static_cast<const float*>(table.data[tensor]) + begin;
    total = slice_sum<SumOf::squares>(data, count, scratch);
  }
  if (threadIdx.x == 0) slices[slice] = total;
}

int64_t slices_of(const Tensor& gradient) { return gradient.defined() ? (gradient.elements() + kSumSlice - 1) / kSumSlice : 0; }

}  // namespace

double gradient_norm(std::span<const Tensor> gradients) {
  int64_t all = 0;
  Device device;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    device = gradient.device();
    ECHO_CHECK(gradient.dtype() != DType::f64, "gradient_norm: f64 on a GPU, expected f32 or bf16");
    all += slices_of(gradient);
  }
  if (all == 0) return 0;
  const Tensor slices = Tensor::empty({all}, DType::f64, device);
  double* next = slices.data<double>();
  Table table;
  const auto flush = [&] {
    if (table.tensors > 0) launch(square_slices, unsigned(table.slices), kSumThreads, 0, stream(), next, table);
    next += table.slices;
    table.tensors = table.slices = 0;
  };
  for (const Tensor& gradient : gradients) {
    if (slices_of(gradient) == 0) continue;
    if (table.tensors == kMostTensors) flush();
    table.data[table.tensors] = gradient.raw_data();
    table.count[table.tensors] = gradient.elements();
    table.first_slice[table.tensors] = table.slices;
    table.is_bf16[table.tensors] = gradient.dtype() == DType::bf16;
    table.slices += int32_t(slices_of(gradient));
    ++table.tensors;
  }
  flush();
  return std::sqrt(total_of(slices));
}

}  // namespace echo::kernels::cuda
