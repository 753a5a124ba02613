// Copies between strided blocks of device memory. Each thread moves one element, and consecutive threads move consecutive
// elements of the last dimension. So rows that are contiguous on both sides move as full cache lines.
#include <array>

#include "tensor/cuda_launch.cuh"
#include "tensor/cuda_memory.h"
#include "tensor/shape.h"

namespace echo::cuda {
namespace {

constexpr int kThreads = 256;

struct Strided {
  int64_t extents[Shape::kMaxRank], to[Shape::kMaxRank], from[Shape::kMaxRank];
  int rank;
};

template <class T>
__global__ void copy_elements(T* to, const T* from, Strided layout, int64_t count) {
  int64_t rest = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (rest >= count) return;
  int64_t target = 0, source = 0;
  for (int i = layout.rank - 1; i >= 0; --i) {
    const int64_t index = rest % layout.extents[i];
    rest /= layout.extents[i];
    target += index * layout.to[i];
    source += index * layout.from[i];
  }
  to[target] = from[source];
}

template <class T>
void copy_as(void* to, const void* from, const Strided& layout, int64_t count) {
  launch(copy_elements<T>, blocks_for(count, kThreads), kThreads, 0, stream(), static_cast<T*>(to), static_cast<const T*>(from),
         layout, count);
}

}  // namespace

void copy_strided(void* to, const int64_t* to_strides, const void* from, const int64_t* from_strides,
                  std::span<const int64_t> extents, int64_t item) {
  Strided layout = {};
  layout.rank = int(extents.size());
  int64_t count = 1;
  for (int i = 0; i < layout.rank; ++i) {
    layout.extents[i] = extents[size_t(i)];
    layout.to[i] = to_strides[i];
    layout.from[i] = from_strides[i];
    count *= extents[size_t(i)];
  }
  if (count == 0) return;
  switch (item) {
    case 1:
      return copy_as<uint8_t>(to, from, layout, count);
    case 2:
      return copy_as<uint16_t>(to, from, layout, count);
    case 4:
      return copy_as<uint32_t>(to, from, layout, count);
    case 8:
      return copy_as<uint64_t>(to, from, layout, count);
    default:
      ECHO_CHECK(false, "copy: elements of ", item, " bytes");
  }
}

}  // namespace echo::cuda
