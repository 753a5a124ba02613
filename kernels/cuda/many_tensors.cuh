#pragma once

#include "kernels/cuda/common.cuh"

// Many tensors in one launch: each is cut into slices, and a block takes one.
namespace echo::kernels::cuda {

// Which of `count` tensors a slice belongs to: the last that begins at or before it. first_slice increases from 0.
__device__ __forceinline__ int tensor_of_slice(const int32_t* first_slice, int count, int slice) {
  int found = 0;
  for (int low = 1, high = count; low < high;) {
    const int middle = (low + high) / 2;
    if (first_slice[middle] <= slice)
      found = middle, low = middle + 1;
    else
      high = middle;
  }
  return found;
}

}  // namespace echo::kernels::cuda
