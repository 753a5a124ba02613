#pragma once

#include "kernels/cuda/common.cuh"

// Many tensors in one launch: each is cut into pieces, and a block takes one.
namespace echo::kernels::cuda {

// Which of `count` tensors a piece belongs to: the last that begins at or before it. first_piece increases from 0.
__device__ __forceinline__ int tensor_of_piece(const int32_t* first_piece, int count, int piece) {
  int found = 0;
  for (int low = 1, high = count; low < high;) {
    const int middle = (low + high) / 2;
    if (first_piece[middle] <= piece)
      found = middle, low = middle + 1;
    else
      high = middle;
  }
  return found;
}

}  // namespace echo::kernels::cuda
