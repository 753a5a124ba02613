// Products of up to 16 rows with a matrix that is read once. bf16: kernels/matmul/few_rows_bf16.cuh.
// f32: a warp owns a row of W and processes 1 or 4 rows of x at a time. For more rows it reads W again, from the caches.
#include "kernels/matmul/few_rows.h"
#include "kernels/matmul/few_rows_bf16.cuh"

namespace echo::kernels::cuda {
namespace {

using small::kMaxRows;
using small::kThreads;
using small::kWarps;

template <class Y>
struct Store : small::Adjacent {
  struct Held {};
  Y* y;
  int64_t stride;
  __device__ __forceinline__ Held load(int, int) const { return {}; }
  __device__ __forceinline__ void store(int row, int column, Held, float value) const {
    y[row * stride + column] = from_float<Y>(value);
  }
};

struct Arguments {
  float* y;
  const float *x, *weight;
  int rows, columns, depth;  // M, N, K
  int64_t y_stride, x_stride, weight_stride;
};

template <int kRows>
__global__ void __launch_bounds__(kThreads) multiply_f32_rows(Arguments a) {
  constexpr int kSteps = 4, kStep = kWarp * kPerVector<float>;
  const int lane = int(threadIdx.x) % kWarp, column = int(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp;
  follow_previous();
  if (column >= a.columns) return;
  const float* const weight = a.weight + column * a.weight_stride;
  for (int first = 0; first < a.rows; first += kRows) {
    float sums[kRows] = {};
    for (int start = lane * kPerVector<float>; start < a.depth; start += kSteps * kStep) {
      float w[kSteps][4] = {};
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        if (start + s * kStep < a.depth) load_vector(w[s], weight + start + s * kStep);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        if (start + s * kStep >= a.depth) continue;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float x[4];
          load_vector(x, a.x + min(first + r, a.rows - 1) * a.x_stride + start + s * kStep);
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[r] += w[s][i] * x[i];
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = warp_sum(sums[r]);
      if (lane == 0 && first + r < a.rows) a.y[(first + r) * a.y_stride + column] = sum;
    }
  }
}

template <class Y>
void start_bf16(const MatmulOperands& p) {
  const small::Product product = {static_cast<const bfloat16*>(p.a),
                                  static_cast<const bfloat16*>(p.b),
                                  nullptr,
                                  int(p.m),
                                  int(p.n),
                                  int(p.k),
                                  p.lda,
                                  p.ldb,
                                  0};
  Store<Y> store;
  store.y = static_cast<Y*>(p.c), store.stride = p.ldc;
  small::start(product, store);
}

}  // namespace

bool small_matmul_fits(const MatmulOperands& p) {
  if (p.transpose_a || !p.transpose_b || p.accumulate || p.m < 1 || p.m > kMaxRows || p.device.is_cpu()) return false;
  if (p.n < 1 || p.k < 1 || p.n >= 1 << 30 || p.k >= 1 << 30) return false;
  const auto aligned = [&]<class T>() {
    return p.k % kPerVector<T> == 0 && is_vector_aligned(static_cast<const T*>(p.a), p.lda) &&
           is_vector_aligned(static_cast<const T*>(p.b), p.ldb);
  };
  if (p.dtype == DType::f32) return p.c_dtype == DType::f32 && aligned.template operator()<float>();
  return p.dtype == DType::bf16 && (p.c_dtype == DType::f32 || p.c_dtype == DType::bf16) &&
         aligned.template operator()<bfloat16>();
}

void small_matmul(const MatmulOperands& p) {
  ECHO_CHECK(small_matmul_fits(p), "small_matmul: a product of ", p.m, " x ", p.n, " x ", p.k,
             " that it does not support (small_matmul_fits)");
  if (p.dtype == DType::bf16) return p.c_dtype == DType::bf16 ? start_bf16<bfloat16>(p) : start_bf16<float>(p);
  const Arguments a = {static_cast<float*>(p.c),
                       static_cast<const float*>(p.a),
                       static_cast<const float*>(p.b),
                       int(p.m),
                       int(p.n),
                       int(p.k),
                       p.ldc,
                       p.lda,
                       p.ldb};
  launch_early(p.m == 1 ? multiply_f32_rows<1> : multiply_f32_rows<4>, blocks_for(p.n, kWarps), kThreads, 0, stream(), a);
}

}  // namespace echo::kernels::cuda
