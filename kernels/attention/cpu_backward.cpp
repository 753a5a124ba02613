// The backward passes of attention on the CPU. A tile is kTile keys of one key head. Its keys are the lanes of all vectors, so
// that queries and gradients of outputs are read as they are stored (one element is broadcast to all lanes). A task is one key
// head of one sequence, with the heads of its group one after another. It packs everything once. Then each tile of keys meets
// every block of kTile rows that sees it, and dq, dk and dv are accumulated in a fixed order. A task needs about (2 layers + 6)
// T Dh accumulators of memory.
#include "kernels/attention/attention.h"
#include "kernels/attention/cpu_tile.h"

namespace echo::kernels::cpu {
namespace {

// The gradients of outputs enter dP this many columns at a time, so that the matching rows of v^T stay in the L1 cache.
constexpr int64_t kOutputColumns = 128;

template <class T>
struct BackwardArguments {
  using A = accumulator<T>;
  HeadRows<T> q, k;
  const A* lse;
  const A* delta;  // kScores only
  std::span<const SharingLayer> layers;
  FirstKeys first_keys;
  int64_t batches, positions, heads, key_heads, head_width;
  A scale;
  bool wants_dv;

  int64_t group() const { return heads / key_heads; }
  int64_t width() const { return vector_width<A>(head_width); }      // of rows to which vectors are added
  int64_t depth() const { return round_up(head_width, kRowBlock); }  // of rows whose elements are broadcast
  int64_t outputs_width() const { return depth() * int64_t(layers.size()); }
  int64_t padded_positions() const { return round_up(positions, kTile); }
};

// Memory of one thread. P is padded_positions(). kScores: also the buffers that only the leader's pass needs.
template <bool kScores, class A>
struct BackwardBuffers {
  A *queries, *d_outputs;        // [P][depth], [P][outputs_width]; of the current head
  A *keys, *dq;                  // [P][width]; kScores. dq of the current head
  A *keys_transposed, *dk, *dv;  // per tile [width][kTile]; dk: kScores
  A* values_transposed;          // per tile [outputs_width][kTile]; kScores
  A *normaliser, *delta;         // [P] of the current head
  A *p, *ds;                     // [kTile][kTile]
  A* rows;                       // [kTile][width], for transposition

  template <class T>
  BackwardBuffers(Arena<A> arena, const BackwardArguments<T>& arguments) {
    const int64_t positions = arguments.padded_positions(), width = arguments.width();
    queries = arena.take(positions * arguments.depth());
    d_outputs = arena.take(positions * arguments.outputs_width());
    keys = kScores ? arena.take(positions * width) : nullptr;
    keys_transposed = arena.take(positions * width);
    dv = arena.take(positions * width);
    dq = kScores ? arena.take(positions * width) : nullptr;
    dk = kScores ? arena.take(positions * width) : nullptr;
    // Transposition writes whole vectors of columns, so the last one may go beyond the end.
    values_transposed = kScores ? arena.take(positions * arguments.outputs_width() + width * kTile) : nullptr;
    normaliser = arena.take(positions);
    delta = arena.take(positions);
    p = arena.take(kTile * kTile);
    ds = arena.take(kTile * kTile);
    rows = arena.take(kTile * width);
    elements = arena.taken();
  }
  int64_t elements;
};

// Converts scores (in place) to probabilities, for `rows` rows from `row` on and the first `columns` keys of the tile:
// exp2(score - lse), zero where masked. With kScores also ds = p * (dp - delta), in place of dp.
template <bool kScores, class A>
void probabilities(A* p, A* ds, const A* normalisers, const A* row_sums, const FirstKeys& first_keys, int64_t batch,
                   int64_t row, int64_t rows, int64_t positions, int64_t key_tile, int64_t columns) {
  constexpr int N = kLanes<A>;
  const Vector<A> lanes = __builtin_convertvector(lane_numbers<A>(), Vector<A>);
  const bool masked = row < key_tile + kTile || first_keys.maximum(batch, row, std::min(row + rows, positions)) > key_tile;
  for (int64_t r = 0; r < rows; ++r, p += kTile, ds += kTile) {
    const Vector<A> normaliser = broadcast(normalisers[row + r]);
    // Probabilities are at most 1. Rounding of lse must not make them larger.
    const auto probability = [&](int64_t n) {
      return exp2_of_nonpositive<A>(minimum<A>(load(p + n) - normaliser, Vector<A>{}));
    };
    if (!masked) {
#pragma GCC unroll 4
      for (int64_t n = 0; n < kTile; n += N) {
        const Vector<A> value = probability(n);
        store<A>(p + n, value);
        if constexpr (kScores) store<A>(ds + n, value * (load(ds + n) - row_sums[row + r]));
      }
      continue;
    }
    const int64_t last = row + r - key_tile;  // first and last key of the tile that this row sees
    const int64_t first = row + r < positions ? first_keys.at(batch, row + r) - key_tile : 0;
    for (int64_t n = 0; n < columns; n += N) {
      Vector<A> value = probability(n);
      value = lanes > broadcast(A(last - n)) ? Vector<A>{} : value;
      value = lanes < broadcast(A(first - n)) ? Vector<A>{} : value;
      store<A>(p + n, value);
      if constexpr (kScores) store<A>(ds + n, value * (load(ds + n) - row_sums[row + r]));
    }
  }
}

// Processes `rows` rows from `row` on against the first `columns` keys of the tile that starts at key_tile.
template <bool kScores, class T, class A = accumulator<T>>
void backward_part(const BackwardArguments<T>& arguments, const BackwardBuffers<kScores, A>& buffers, int64_t batch,
                   int64_t row, int64_t rows, int64_t key_tile, int64_t columns) {
  const int64_t width = arguments.width(), depth = arguments.depth(), outputs_width = arguments.outputs_width();
  const A* const queries = buffers.queries + row * depth;
  const A* const d_outputs = buffers.d_outputs + row * outputs_width;
  multiply<Layout::by_row, false>(buffers.p, kTile, queries, depth, buffers.keys_transposed + key_tile * width, kTile, rows,
                                  columns, depth);
  if constexpr (kScores) {
    const A* const values = buffers.values_transposed + key_tile * outputs_width;
    const int64_t step = std::max<int64_t>(1, kOutputColumns / depth) * depth;
    for (int64_t begin = 0; begin < outputs_width; begin += step) {
      const int64_t count = std::min(step, outputs_width - begin);
      if (begin == 0)
        multiply<Layout::by_row, false>(buffers.ds, kTile, d_outputs, outputs_width, values, kTile, rows, columns, count);
      else
        multiply<Layout::by_row, true>(buffers.ds, kTile, d_outputs + begin, outputs_width, values + begin * kTile, kTile, rows,
                                       columns, count);
    }
  }
  probabilities<kScores>(buffers.p, buffers.ds, buffers.normaliser, buffers.delta, arguments.first_keys, batch, row, rows,
                         arguments.positions, key_tile, columns);
  if (arguments.wants_dv)
    multiply<Layout::by_column, true>(buffers.dv + key_tile * width, kTile, d_outputs, outputs_width, buffers.p, kTile, depth,
                                      columns, rows);
  if constexpr (kScores) {
    multiply<Layout::by_column, true>(buffers.dk + key_tile * width, kTile, queries, depth, buffers.ds, kTile, depth, columns,
                                      rows);
    multiply<Layout::by_row, true>(buffers.dq + row * width, width, buffers.ds, kTile, buffers.keys + key_tile * width, width,
                                   rows, width, columns);
  }
}

// The whole backward pass of one query head.
template <bool kScores, class T, class A = accumulator<T>>
void backward_head(const BackwardArguments<T>& arguments, const BackwardBuffers<kScores, A>& buffers, int64_t batch,
                   int64_t head) {
  const int64_t positions = arguments.positions, padded = arguments.padded_positions(), depth = arguments.depth();
  const HeadRows<T>& q = arguments.q;
  pack_rows(buffers.queries, depth, q.row(batch, 0, head), q.position_stride, positions, padded, arguments.head_width, depth);
  for (size_t j = 0; j < arguments.layers.size(); ++j) {
    const HeadRows<T> d_o(arguments.layers[j].d_o);
    pack_rows(buffers.d_outputs + int64_t(j) * depth, arguments.outputs_width(), d_o.row(batch, 0, head), d_o.position_stride,
              positions, padded, arguments.head_width, depth);
  }
  const int64_t statistics = (batch * arguments.heads + head) * positions;
  for (int64_t t = 0; t < padded; ++t) {
    buffers.normaliser[t] = t < positions ? arguments.lse[statistics + t] * kLog2OfE<A> : A(0);
    if constexpr (kScores) buffers.delta[t] = t < positions ? arguments.delta[statistics + t] : A(0);
  }
  if constexpr (kScores) std::fill(buffers.dq, buffers.dq + padded * arguments.width(), A(0));
  const int64_t end = round_up(positions, kChunk);
  for (int64_t key_tile = 0; key_tile < positions; key_tile += kTile) {
    // On the diagonal, a chunk of rows sees the keys up to its own.
    for (int64_t row = key_tile; row < std::min(key_tile + kTile, end); row += kChunk)
      backward_part<kScores, T>(arguments, buffers, batch, row, kChunk, key_tile, row - key_tile + kChunk);
    for (int64_t row = key_tile + kTile; row < positions; row += kTile) {
      if (arguments.first_keys.minimum(batch, row, std::min(row + kTile, positions)) >= key_tile + kTile) continue;
      backward_part<kScores, T>(arguments, buffers, batch, row, std::min<int64_t>(kTile, end - row), key_tile, kTile);
    }
  }
}

template <bool kScores, class T>
void backward(Tensor& dq_tensor, Tensor& dk_tensor, Tensor& dv_tensor, const BackwardArguments<T>& arguments) {
  using A = accumulator<T>;
  using Buffers = BackwardBuffers<kScores, A>;
  const int64_t width = arguments.width(), depth = arguments.depth(), positions = arguments.positions;
  const int64_t head_width = arguments.head_width, group = arguments.group();
  const HeadRows<T> dv(arguments.wants_dv ? dv_tensor : dk_tensor), dk(kScores ? dk_tensor : dv_tensor);
  const HeadRows<T> dq(kScores ? dq_tensor : dv_tensor);
  const ThreadBuffers<A> memory(Buffers(Arena<A>(nullptr), arguments).elements);
  const bool parallel = worth_threads(arguments.batches, arguments.heads, positions, head_width);
  // Results do not depend on which thread takes a task.
#pragma omp parallel for schedule(dynamic, 1) if (parallel)
  for (int64_t task = 0; task < arguments.batches * arguments.key_heads; ++task) {
    const int64_t batch = task / arguments.key_heads, key_head = task % arguments.key_heads;
    const Buffers buffers(Arena<A>(memory.mine()), arguments);
    for (int64_t key_tile = 0; key_tile < positions; key_tile += kTile) {
      const int64_t valid = std::min<int64_t>(kTile, positions - key_tile);
      const T* const keys = arguments.k.row(batch, key_tile, key_head);
      const int64_t stride = arguments.k.position_stride;
      prefetch_rows(keys, stride, valid, std::min<int64_t>(2 * kTile, positions - key_tile), head_width);
      pack_transposed(buffers.keys_transposed + key_tile * width, buffers.rows, width, keys, stride, valid, head_width,
                      arguments.scale * kLog2OfE<A>);
      if constexpr (kScores) pack_rows(buffers.keys + key_tile * width, width, keys, stride, valid, kTile, head_width, width);
      for (size_t j = 0; kScores && j < arguments.layers.size(); ++j) {
        const HeadRows<T> v(arguments.layers[j].v);
        prefetch_rows(v.row(batch, key_tile, key_head), v.position_stride, valid,
                      std::min<int64_t>(2 * kTile, positions - key_tile), head_width);
        pack_transposed(buffers.values_transposed + key_tile * arguments.outputs_width() + int64_t(j) * depth * kTile,
                        buffers.rows, width, v.row(batch, key_tile, key_head), v.position_stride, valid, head_width, A(1));
      }
    }
    std::fill(buffers.dv, buffers.dv + arguments.padded_positions() * width, A(0));
    if constexpr (kScores) std::fill(buffers.dk, buffers.dk + arguments.padded_positions() * width, A(0));
    for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
      backward_head<kScores, T>(arguments, buffers, batch, head);
      for (int64_t t = 0; kScores && t < positions; ++t) {
        T* const to = dq.row(batch, t, head);
        const A* const from = buffers.dq + t * width;
#pragma omp simd
        for (int64_t d = 0; d < head_width; ++d) to[d] = T(from[d] * arguments.scale);
      }
    }
    for (int64_t key_tile = 0; key_tile < positions; key_tile += kTile) {
      const int64_t valid = std::min<int64_t>(kTile, positions - key_tile);
      if constexpr (kScores)
        unpack_transposed(dk.row(batch, key_tile, key_head), dk.position_stride, buffers.rows, width,
                          buffers.dk + key_tile * width, valid, head_width, arguments.scale);
      if (arguments.wants_dv)
        unpack_transposed(dv.row(batch, key_tile, key_head), dv.position_stride, buffers.rows, width,
                          buffers.dv + key_tile * width, valid, head_width, A(1));
    }
  }
}

template <class T>
BackwardArguments<T> backward_arguments(std::span<const SharingLayer> layers, const Tensor& q, const Tensor& k,
                                        const Tensor& lse, const Tensor& delta, const Tensor& first_key, double scale,
                                        bool wants_dv) {
  using A = accumulator<T>;
  return {HeadRows<T>(q), HeadRows<T>(k),
          lse.data<A>(),  delta.defined() ? delta.data<A>() : nullptr,
          layers,         FirstKeys(first_key, q.dim(1)),
          q.dim(0),       q.dim(1),
          q.dim(2),       k.dim(2),
          q.dim(3),       A(scale),
          wants_dv};
}

}  // namespace

void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale) {
  const SharingLayer layer{d_o, Tensor()};
  dispatch_float(q.dtype(), [&]<class T>() {
    backward<false, T>(dv, dv, dv, backward_arguments<T>({&layer, 1}, q, k, lse, Tensor(), first_key, scale, true));
  });
}

void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv_of_leader, std::span<const SharingLayer> layers, const Tensor& q,
                        const Tensor& k, const Tensor& lse, const Tensor& delta, const Tensor& first_key, double scale) {
  dispatch_float(q.dtype(), [&]<class T>() {
    backward<true, T>(dq, dk, dv_of_leader,
                      backward_arguments<T>(layers, q, k, lse, delta, first_key, scale, dv_of_leader.defined()));
  });
}

}  // namespace echo::kernels::cpu
