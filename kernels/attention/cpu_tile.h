#pragma once

#include <omp.h>

#include <algorithm>

#include "kernels/vector_math.h"
#include "tensor/tensor.h"

// Building blocks of attention's passes on the CPU: views of heads, packing into small buffers in the accumulator type, and one
// product of tiles. All tile buffers have rows at a fixed distance, in thread-private memory that stays in the L1 and L2
// caches.
namespace echo::kernels::cpu {

// Positions along a tile's vector dimension, and the step in which parts beyond the diagonal are skipped.
inline constexpr int kTile = 64;
inline constexpr int kChunk = 16;

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Products of tiles have a multiple of this many rows.
inline constexpr int kRowBlock = 8;

// Dh rounded up to whole vectors, and to kRowBlock.
template <class A>
constexpr int64_t vector_width(int64_t head_width) {
  return round_up(head_width, std::max(kLanes<A>, kRowBlock));
}

// True when a pass over B * H heads of T x T / 2 positions is worth starting other threads, which takes some microseconds.
constexpr bool worth_threads(int64_t batches, int64_t heads, int64_t positions, int64_t head_width) {
  return batches * heads * positions * positions * head_width > 500'000;
}

// A (B, T, H, Dh) tensor whose last dimension has stride 1.
template <class T>
struct HeadRows {
  explicit HeadRows(const Tensor& tensor)
      : data(tensor.data<T>()),
        batch_stride(tensor.stride(0)),
        position_stride(tensor.stride(1)),
        head_stride(tensor.stride(2)) {}
  T* row(int64_t batch, int64_t position, int64_t head) const {
    return data + batch * batch_stride + position * position_stride + head * head_stride;
  }
  T* data;
  int64_t batch_stride, position_stride, head_stride;
};

// The first key that each position may see. All zero without document boundaries.
struct FirstKeys {
  FirstKeys(const Tensor& first_key, int64_t positions)
      : data(first_key.defined() ? first_key.data<int32_t>() : nullptr), positions_per_batch(positions) {}
  int32_t at(int64_t batch, int64_t position) const {
    return data == nullptr ? 0 : data[batch * positions_per_batch + position];
  }
  // Over positions [begin, end).
  int32_t minimum(int64_t batch, int64_t begin, int64_t end) const {
    if (data == nullptr || begin >= end) return 0;
    return *std::min_element(data + batch * positions_per_batch + begin, data + batch * positions_per_batch + end);
  }
  int32_t maximum(int64_t batch, int64_t begin, int64_t end) const {
    if (data == nullptr || begin >= end) return 0;
    return *std::max_element(data + batch * positions_per_batch + begin, data + batch * positions_per_batch + end);
  }
  const int32_t* data;
  int64_t positions_per_batch;
};

// Private memory for each thread of a parallel region, from the tensor allocator, so that it is counted and reused.
template <class A>
class ThreadBuffers {
 public:
  explicit ThreadBuffers(int64_t elements_per_thread)
      : stride_(round_up(elements_per_thread, 64) + 64),
        memory_(Tensor::empty({omp_get_max_threads() * stride_}, dtype_of<A>)) {}
  A* mine() const { return memory_.template data<A>() + omp_get_thread_num() * stride_; }

 private:
  int64_t stride_;
  Tensor memory_;
};

// Takes consecutive pieces of a buffer, each starting at a multiple of 64 elements. Without a buffer it only counts.
template <class A>
class Arena {
 public:
  explicit Arena(A* begin) : begin_(begin) {}
  A* take(int64_t elements) {
    A* const piece = begin_ == nullptr ? nullptr : begin_ + taken_;
    taken_ += round_up(elements, 64);
    return piece;
  }
  int64_t taken() const { return taken_; }

 private:
  A* begin_;
  int64_t taken_ = 0;
};

// target[i][0..width) = source row i for i < valid. Zeros in the columns up to padded_width, and in the rows up to `rows`.
template <class A, class T>
ECHO_INLINE void pack_rows(A* target, int64_t target_stride, const T* source, int64_t source_stride, int64_t valid,
                           int64_t rows, int64_t width, int64_t padded_width) {
  for (int64_t i = 0; i < valid; ++i) {
    A* to = target + i * target_stride;
    const T* from = source + i * source_stride;
    if (width % 16 == 0) {
      for (int64_t j = 0; j < width; j += 16) {
#pragma omp simd
        for (int lane = 0; lane < 16; ++lane) to[j + lane] = A(from[j + lane]);
      }
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) to[j] = A(from[j]);
    }
    for (int64_t j = width; j < padded_width; ++j) to[j] = 0;
  }
  for (int64_t i = valid; i < rows; ++i) std::fill(target + i * target_stride, target + i * target_stride + padded_width, A(0));
}

// Prefetches rows [begin, end) of a strided source before they are packed. The rows are on many pages, and the hardware's own
// prefetching stops at the end of each page.
template <class T>
ECHO_INLINE void prefetch_rows(const T* source, int64_t source_stride, int64_t begin, int64_t end, int64_t width) {
  constexpr int64_t kPerLine = 64 / int64_t(sizeof(T));
  for (int64_t i = begin; i < end; ++i)
    for (int64_t j = 0; j < width; j += kPerLine) __builtin_prefetch(source + i * source_stride + j, 0, 2);
}

// target[d][i] = factor * source row i, column d, for kTile rows (zero from `valid` on): the tile's positions become lanes.
// `rows` is a scratch buffer of kTile * padded_width elements. padded_width is a multiple of the number of lanes.
template <class A, class T>
ECHO_INLINE void pack_transposed(A* target, A* rows, int64_t padded_width, const T* source, int64_t source_stride,
                                 int64_t valid, int64_t width, A factor) {
  constexpr int N = kLanes<A>;
  const auto transpose = [&](const A* from, int64_t stride) {
    for (int64_t i = 0; i < kTile; i += N)
      for (int64_t d = 0; d < padded_width; d += N)
        transpose_square<A>(target + d * kTile + i, kTile, from + i * stride + d, stride, factor);
  };
  if constexpr (std::is_same_v<A, T>) {
    if (valid == kTile && width == padded_width) return transpose(source, source_stride);
  }
  pack_rows(rows, padded_width, source, source_stride, valid, kTile, width, padded_width);
  transpose(rows, padded_width);
}

// to[j] = from[j], converted to T. Not inlined and without `omp simd`, because otherwise the compiler converts bf16 one by one.
template <class A, class T>
[[gnu::noinline]] void round_row(T* __restrict to, const A* __restrict from, int64_t width) {
  for (int64_t j = 0; j < width; ++j) to[j] = T(from[j]);
}

// The inverse of pack_transposed: target row i, column d = factor * source[d][i] for i < valid.
template <class A, class T>
ECHO_INLINE void unpack_transposed(T* target, int64_t target_stride, A* rows, int64_t padded_width, const A* source,
                                   int64_t valid, int64_t width, A factor) {
  constexpr int N = kLanes<A>;
  const auto transpose = [&](A* to, int64_t stride) {
    for (int64_t i = 0; i < kTile; i += N)
      for (int64_t d = 0; d < padded_width; d += N)
        transpose_square<A>(to + i * stride + d, stride, source + d * kTile + i, kTile, factor);
  };
  if constexpr (std::is_same_v<A, T>) {
    if (valid == kTile && width == padded_width) return transpose(target, target_stride);
  }
  transpose(rows, padded_width);
  for (int64_t i = 0; i < valid; ++i) {
    T* to = target + i * target_stride;
    const A* from = rows + i * padded_width;
    round_row(to, from, width);
  }
}

// which index of the left operand is contiguous: that of the sum, or that of the output row
enum class Layout { by_row, by_column };

// c[R][V vectors] (+)= a b. R * V sums stay in registers. Each row of b is read once, and each element of a is broadcast to all
// lanes.
template <class A, int R, int V, Layout kLayout, bool kAccumulate>
ECHO_INLINE void multiply_block(A* c, int64_t c_stride, const A* a, int64_t a_stride, const A* b, int64_t b_stride,
                                int64_t depth) {
  constexpr int N = kLanes<A>;
  Vector<A> sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sums[r][v] = kAccumulate ? load(c + r * c_stride + v * N) : Vector<A>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<A> row[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) row[v] = in_register<A>(load(b + k * b_stride + v * N));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const A scalar = kLayout == Layout::by_row ? a[r * a_stride + k] : a[k * a_stride + r];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[r][v] += row[v] * scalar;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store<A>(c + r * c_stride + v * N, sums[r][v]);
}

// Register blocks: as many sums as the instruction set has registers, minus a few for operands.
inline constexpr int kMostVectors = kVectorBytes == 64 ? 4 : 3;
constexpr int block_rows(int vectors) {
  if (kVectorBytes == 64) return vectors >= 3 ? 4 : 8;
  return vectors == 1 ? 8 : 4;
}

template <class A, int V, Layout kLayout, bool kAccumulate>
void multiply_columns(A* c, int64_t c_stride, const A* a, int64_t a_stride, const A* b, int64_t b_stride, int64_t rows,
                      int64_t depth) {
  constexpr int R = block_rows(V);
  for (int64_t r = 0; r < rows; r += R)
    multiply_block<A, R, V, kLayout, kAccumulate>(
        c + r * c_stride, c_stride, a + (kLayout == Layout::by_row ? r * a_stride : r), a_stride, b, b_stride, depth);
}

// c[rows][columns] (+)= a[rows][depth] b[depth][columns]. rows is a multiple of kRowBlock, columns of the number of lanes. By
// column, a is stored as [depth][rows].
template <Layout kLayout, bool kAccumulate, class A>
ECHO_INLINE void multiply(A* c, int64_t c_stride, const A* a, int64_t a_stride, const A* b, int64_t b_stride, int64_t rows,
                          int64_t columns, int64_t depth) {
  int64_t vectors = columns / kLanes<A>;
  while (vectors > 0) {
    // Five vectors are better split as three and two than as four and one.
    const int64_t step =
        vectors > kMostVectors && vectors < 2 * kMostVectors ? (vectors + 1) / 2 : std::min<int64_t>(vectors, kMostVectors);
    switch (step) {
      case 1:
        multiply_columns<A, 1, kLayout, kAccumulate>(c, c_stride, a, a_stride, b, b_stride, rows, depth);
        break;
      case 2:
        multiply_columns<A, 2, kLayout, kAccumulate>(c, c_stride, a, a_stride, b, b_stride, rows, depth);
        break;
      case 3:
        multiply_columns<A, 3, kLayout, kAccumulate>(c, c_stride, a, a_stride, b, b_stride, rows, depth);
        break;
      default:
        multiply_columns<A, kMostVectors, kLayout, kAccumulate>(c, c_stride, a, a_stride, b, b_stride, rows, depth);
    }
    c += step * kLanes<A>;
    b += step * kLanes<A>;
    vectors -= step;
  }
}

}  // namespace echo::kernels::cpu
