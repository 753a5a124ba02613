// The projections of a generation step on a GPU, for few sequences in bf16. Each is one kernel: norm, product, and the
// operation after it (kernels/matmul/few_rows_bf16.cuh). No intermediate result of size 2 F or (H + 2 Hkv) Dh goes through
// memory.
#include "kernels/decode/new_position.cuh"
#include "kernels/decode/projections.h"
#include "kernels/matmul/few_rows_bf16.cuh"
#include "kernels/matmul/matmul.h"

namespace echo::kernels::cuda {
namespace {

using small::kTileColumns;

// A block has 8 columns from the first half of a head, and the 8 columns of the second half that are rotated together with
// them.
struct HeadEpilogue {
  static constexpr bool kPairs = true;
  using Held = NewPosition<bfloat16>::Place;
  NewPosition<bfloat16> to;

  template <int kTiles>
  __device__ __forceinline__ int first_column(int tile) const {
    const int pair = int(blockIdx.x) * kTileColumns, head = pair / to.half;
    return pair + (head + tile) * to.half;
  }
  __device__ __forceinline__ Held load(int row, int column) const {
    const int head = column / (2 * to.half);
    return to.place(row, head, column - head * 2 * to.half);
  }
  __device__ __forceinline__ void store(int, int, const Held& place, float first, float second) const {
    to.store(place, first, second);
  }
};

// A block has 8 columns of the gate and the same 8 columns of up.
struct Gated {
  static constexpr bool kPairs = true;
  struct Held {};
  bfloat16* y;
  int width;

  template <int kTiles>
  __device__ __forceinline__ int first_column(int tile) const {
    return int(blockIdx.x) * kTileColumns + tile * width;
  }
  __device__ __forceinline__ Held load(int, int) const { return {}; }
  __device__ __forceinline__ void store(int row, int column, Held, float gate, float up) const {
    y[int64_t(row) * width + column] = from_float<bfloat16>(gate * sigmoid(gate) * up);
  }
};

struct Onto : small::Adjacent {
  using Held = float;
  bfloat16* x;
  int width;
  __device__ __forceinline__ float load(int row, int column) const { return to_float(x[int64_t(row) * width + column]); }
  __device__ __forceinline__ void store(int row, int column, float before, float value) const {
    x[int64_t(row) * width + column] = from_float<bfloat16>(before + value);
  }
};

// True when the kernel supports the product x W^T.
bool fits(const Tensor& x, const Tensor& weight) {
  return x.dtype() == DType::bf16 && x.dim(0) >= 1 && x.dim(0) <= small::kMaxRows && weight.dim(0) < 1 << 30 &&
         weight.dim(1) < 1 << 30 && weight.dim(1) % kPerVector<bfloat16> == 0 && weight.stride(1) == 1 &&
         is_vector_aligned(x.data<bfloat16>(), x.stride(0)) && is_vector_aligned(weight.data<bfloat16>(), weight.stride(0));
}
bool fits(const NormedRows& x, const Tensor& weight) {
  return fits(x.residual, weight) && x.weight.dtype() == DType::bf16 && is_vector_aligned(x.weight.data<bfloat16>(), 0);
}

small::Product product(const Tensor& x, const Tensor& weight) {
  return {x.data<bfloat16>(), weight.data<bfloat16>(), nullptr, int(x.dim(0)), int(weight.dim(0)), int(x.dim(1)),
          x.stride(0),        weight.stride(0),        0};
}
small::Product product(const NormedRows& x, const Tensor& weight) {
  small::Product result = product(x.residual, weight);
  result.norm = x.weight.data<bfloat16>();
  result.eps = float(x.eps);
  return result;
}

// Each half of a head is a whole number of tiles.
bool has_whole_tiles(const Tensor& cache) { return cache.dim(3) % (2 * kTileColumns) == 0; }

}  // namespace

void project_heads(Tensor& projected, Tensor& k_cache, Tensor& v_cache, const NormedRows& x, const Tensor& weight,
                   const RopeTable& table, const Tensor& lengths) {
  if (!fits(x, weight) || !has_whole_tiles(k_cache))
    return one_by_one::project_heads(projected, k_cache, v_cache, x, weight, table, lengths);
  const int64_t width = k_cache.dim(3), key_heads = k_cache.dim(2), heads = projected.dim(1) / width - 2 * key_heads;
  HeadEpilogue epilogue;
  epilogue.to = {projected.data<bfloat16>(),
                 k_cache.data<bfloat16>(),
                 v_cache.data<bfloat16>(),
                 table.cosine.data<float>(),
                 table.sine.data<float>(),
                 lengths.data<int32_t>(),
                 {projected.stride(0), 0, width},
                 head_strides(k_cache),
                 head_strides(v_cache),
                 int(heads),
                 int(key_heads),
                 int(key_heads),
                 int(width / 2),
                 int(k_cache.dim(1))};
  small::start<true>(product(x, weight), epilogue);
}

void project_values(Tensor& v_cache, const NormedRows& x, const Tensor& weight, const Tensor& lengths) {
  if (!fits(x, weight) || !has_whole_tiles(v_cache)) return one_by_one::project_values(v_cache, x, weight, lengths);
  HeadEpilogue epilogue = {};
  epilogue.to.v_cache = v_cache.data<bfloat16>();
  epilogue.to.lengths = lengths.data<int32_t>();
  epilogue.to.v_strides = head_strides(v_cache);
  epilogue.to.value_heads = int(v_cache.dim(2));
  epilogue.to.half = int(v_cache.dim(3) / 2);
  epilogue.to.capacity = int(v_cache.dim(1));
  small::start<true>(product(x, weight), epilogue);
}

void project_gated(Tensor& y, const NormedRows& x, const Tensor& weight) {
  if (!fits(x, weight) || y.dim(1) % kTileColumns != 0) return one_by_one::project_gated(y, x, weight);
  small::start<true>(product(x, weight), Gated{y.data<bfloat16>(), int(y.dim(1))});
}

void project_onto(Tensor& x, const Tensor& y, const Tensor& weight) {
  if (!fits(y, weight)) return kernels::matmul(x, y, Transpose::no, weight, Transpose::yes, GradientMode::accumulate);
  Onto epilogue;
  epilogue.x = x.data<bfloat16>(), epilogue.width = int(x.dim(1));
  small::start(product(y, weight), epilogue);
}

}  // namespace echo::kernels::cuda
