#pragma once

#include "kernels/cuda/common.cuh"

// Many tensors in one launch: each is cut into slices, and each block takes one slice.
namespace echo::kernels::cuda {

// The tensor that a slice belongs to, of `count` tensors: the last one whose first slice is not after it. first_slice ascends
// from 0.
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
