// The backward passes of attention on the CPU. A tile is kTile keys of one key head; they are the lanes of all vectors, and the rows of
// all queries that see them stream past in blocks: dK and dV of the tile stay in place until they are complete, queries and gradients of
// outputs are read as they are (one element spread over the lanes).
#include "kernels/attention.h"
#include "kernels/attention_tile.h"

namespace echo::kernels::cpu {
namespace {

// Buffers of one thread. `width`: Dh rounded up to whole vectors; `depth`: to what the product of tiles needs.
template <class A>
struct BackwardBuffers {
  A *keys, *keys_transposed, *values_transposed;  // [kTile][width], [width][kTile], [uses * depth][kTile]
  A *dk, *dv;                                     // [width][kTile] each
  A *queries, *d_outputs;                         // [kTile][width], [kTile][uses * depth]
  A *p, *ds;                                      // [kTile][kTile] each
  A *normaliser, *row_sum;                        // [kTile] each
  A* rows;                                        // [kTile][width], for transposition
  A* dq;                                          // [group][positions][width]

  static int64_t elements(int64_t width, int64_t outputs_width, int64_t dq_elements) {
    return 6 * kTile * width + (2 * outputs_width + width) * kTile + 2 * kTile * kTile + 2 * kTile + dq_elements;
  }
  BackwardBuffers(A* begin, int64_t width, int64_t outputs_width, int64_t dq_elements) {
    Pieces<A> pieces(begin);
    for (A** piece : {&keys, &keys_transposed, &dk, &dv, &queries, &rows}) *piece = pieces.take(kTile * width);
    values_transposed = pieces.take((outputs_width + width) * kTile);
    d_outputs = pieces.take(outputs_width * kTile);
    for (A** piece : {&p, &ds}) *piece = pieces.take(kTile * kTile);
    for (A** piece : {&normaliser, &row_sum}) *piece = pieces.take(kTile);
    dq = pieces.take(dq_elements);
  }
};

// Probabilities of rows [row, row + rows) of a block from their scores (in place), over the first `columns` keys of the tile:
// exp2(score - lse), zero where masked. With kScores also ds = p * (dp - row_sum), in place of dp.
template <bool kScores, class A>
void probabilities(const BackwardBuffers<A>& buffers, const FirstKeys& first_keys, int64_t batch, int64_t block, int64_t row,
                   int64_t rows, int64_t valid, int64_t key_tile, int64_t columns) {
  constexpr int N = kLanes<A>;
  const Vector<A> lanes = __builtin_convertvector(lane_numbers<A>(), Vector<A>);
  for (int64_t r = row; r < row + rows; ++r) {
    A* const p = buffers.p + r * kTile;
    A* const ds = buffers.ds + r * kTile;
    const A normaliser = buffers.normaliser[r], row_sum = buffers.row_sum[r];
    const int64_t last = block + r - key_tile;  // the last key of the tile that this row sees
    const int64_t first = r < valid ? first_keys.at(batch, block + r) - key_tile : 0;
    for (int64_t n = 0; n < columns; n += N) {
      // Probabilities are at most 1; rounding of lse may not make them more.
      Vector<A> value = exp2_of_nonpositive<A>(minimum<A>(load(p + n) - normaliser, Vector<A>{}));
      if (n + N > last + 1) value = lanes > broadcast(A(last - n)) ? Vector<A>{} : value;
      if (first > n) value = lanes < broadcast(A(first - n)) ? Vector<A>{} : value;
      store<A>(p + n, value);
      if constexpr (kScores) store<A>(ds + n, value * (load(ds + n) - row_sum));
    }
  }
}

template <class T>
struct BackwardArguments {
  using A = accumulator<T>;
  Heads<T> q, k;
  const A* lse;
  const A* row_sum;  // kScores
  std::span<const AttentionUse> uses;
  FirstKeys first_keys;
  int64_t batches, positions, heads, key_heads, head_width;
  A scale;
  bool wants_dv;
  int64_t group() const { return heads / key_heads; }
  int64_t width() const { return round_up(head_width, kLanes<A>); }
  int64_t depth() const { return round_up(head_width, 8); }
};

// One block of kTile rows of one head against the tile of keys in `buffers`.
template <bool kScores, class T>
void backward_block(const BackwardArguments<T>& arguments, const BackwardBuffers<accumulator<T>>& buffers, int64_t batch, int64_t head,
                    int64_t block, int64_t key_tile, accumulator<T>* dq) {
  using A = accumulator<T>;
  const int64_t width = arguments.width(), depth = arguments.depth(), outputs_width = depth * int64_t(arguments.uses.size());
  const int64_t valid = std::min<int64_t>(kTile, arguments.positions - block), rows = round_up(valid, kChunk);
  const Heads<T>& q = arguments.q;
  pack_rows(buffers.queries, width, q.row(batch, block, head), q.position_stride, valid, rows, arguments.head_width, depth);
  for (size_t j = 0; j < arguments.uses.size(); ++j) {
    const Heads<T> d_o(arguments.uses[j].d_o);
    pack_rows(buffers.d_outputs + int64_t(j) * depth, outputs_width, d_o.row(batch, block, head), d_o.position_stride, valid, rows,
              arguments.head_width, depth);
  }
  const int64_t statistics = (batch * arguments.heads + head) * arguments.positions + block;
  for (int64_t r = 0; r < rows; ++r) {
    buffers.normaliser[r] = r < valid ? arguments.lse[statistics + r] * kLog2OfE<A> : A(0);
    if constexpr (kScores) buffers.row_sum[r] = r < valid ? arguments.row_sum[statistics + r] : A(0);
  }
  const auto part = [&](int64_t row, int64_t part_rows, int64_t columns) {
    A* const p = buffers.p + row * kTile;
    A* const ds = buffers.ds + row * kTile;
    const A* const queries = buffers.queries + row * width;
    const A* const d_outputs = buffers.d_outputs + row * outputs_width;
    multiply<Layout::by_row, false>(p, kTile, queries, width, buffers.keys_transposed, kTile, part_rows, columns, depth);
    if constexpr (kScores)
      multiply<Layout::by_row, false>(ds, kTile, d_outputs, outputs_width, buffers.values_transposed, kTile, part_rows, columns,
                                      outputs_width);
    probabilities<kScores>(buffers, arguments.first_keys, batch, block, row, part_rows, valid, key_tile, columns);
    if (arguments.wants_dv)
      multiply<Layout::by_column, true>(buffers.dv, kTile, d_outputs, outputs_width, p, kTile, depth, columns, part_rows);
    if constexpr (kScores) {
      multiply<Layout::by_column, true>(buffers.dk, kTile, queries, width, ds, kTile, depth, columns, part_rows);
      multiply<Layout::by_row, true>(dq + (block + row) * width, width, ds, kTile, buffers.keys, width, part_rows, width, columns);
    }
  };
  if (block > key_tile) return part(0, rows, kTile);
  // On the diagonal a chunk of rows sees the keys up to its own.
  for (int64_t row = 0; row < rows; row += kChunk) part(row, kChunk, row + kChunk);
}

// All rows that see the keys from key_tile on; leaves the tile's dk and dv in `buffers`, transposed.
template <bool kScores, class T>
void backward_tile(const BackwardArguments<T>& arguments, const BackwardBuffers<accumulator<T>>& buffers, int64_t batch,
                   int64_t key_head, int64_t key_tile) {
  using A = accumulator<T>;
  const int64_t width = arguments.width(), depth = arguments.depth(), positions = arguments.positions;
  const int64_t valid = std::min<int64_t>(kTile, positions - key_tile), head_width = arguments.head_width;
  const Heads<T>& k = arguments.k;
  pack_transposed(buffers.keys_transposed, buffers.keys, width, k.row(batch, key_tile, key_head), k.position_stride, valid, head_width,
                  arguments.scale * kLog2OfE<A>);  // and leaves the rows in buffers.keys
  std::fill(buffers.dv, buffers.dv + width * kTile, A(0));
  if constexpr (kScores) {
    std::fill(buffers.dk, buffers.dk + width * kTile, A(0));
    for (size_t j = 0; j < arguments.uses.size(); ++j) {
      const Heads<T> v(arguments.uses[j].v);
      pack_transposed(buffers.values_transposed + int64_t(j) * depth * kTile, buffers.rows, width, v.row(batch, key_tile, key_head),
                      v.position_stride, valid, head_width, A(1));
    }
  }
  for (int64_t g = 0; g < arguments.group(); ++g) {
    for (int64_t block = key_tile; block < positions; block += kTile) {
      if (arguments.first_keys.minimum(batch, block, std::min(block + kTile, positions)) >= key_tile + kTile) continue;
      A* const dq = buffers.dq + g * round_up(positions, kTile) * width;
      backward_block<kScores, T>(arguments, buffers, batch, key_head * arguments.group() + g, block, key_tile, dq);
    }
  }
}

template <class T>
void value_backward(Tensor& dv_tensor, const BackwardArguments<T>& arguments) {
  using A = accumulator<T>;
  const Heads<T> dv(dv_tensor);
  const int64_t width = arguments.width(), depth = arguments.depth();
  const ThreadBuffers<A> memory(BackwardBuffers<A>::elements(width, depth, 0));
  const int64_t key_tiles = (arguments.positions + kTile - 1) / kTile, sequences = arguments.batches * arguments.key_heads;
  // Which thread takes a task changes no result; earlier keys are seen by more queries, so they go first.
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t task = 0; task < key_tiles * sequences; ++task) {
    const int64_t key_tile = task / sequences * kTile, batch = task % sequences / arguments.key_heads;
    const int64_t key_head = task % arguments.key_heads;
    const BackwardBuffers<A> buffers(memory.mine(), width, depth, 0);
    backward_tile<false, T>(arguments, buffers, batch, key_head, key_tile);
    unpack_transposed(dv.row(batch, key_tile, key_head), dv.position_stride, buffers.rows, width, buffers.dv,
                      std::min<int64_t>(kTile, arguments.positions - key_tile), arguments.head_width, A(1));
  }
}

// A task is one key head of one sequence: its dq collects over tiles of keys in a fixed order.
template <class T>
void block_backward(Tensor& dq_tensor, Tensor& dk_tensor, Tensor& dv_tensor, const BackwardArguments<T>& arguments) {
  using A = accumulator<T>;
  const Heads<T> dq(dq_tensor), dk(dk_tensor), dv(arguments.wants_dv ? dv_tensor : dk_tensor);
  const int64_t width = arguments.width(), outputs_width = arguments.depth() * int64_t(arguments.uses.size());
  const int64_t positions = arguments.positions, padded_positions = round_up(positions, kTile), group = arguments.group();
  const int64_t dq_elements = group * padded_positions * width;
  const ThreadBuffers<A> memory(BackwardBuffers<A>::elements(width, outputs_width, dq_elements));
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t task = 0; task < arguments.batches * arguments.key_heads; ++task) {
    const int64_t batch = task / arguments.key_heads, key_head = task % arguments.key_heads;
    const BackwardBuffers<A> buffers(memory.mine(), width, outputs_width, dq_elements);
    std::fill(buffers.dq, buffers.dq + dq_elements, A(0));
    for (int64_t key_tile = 0; key_tile < positions; key_tile += kTile) {
      const int64_t valid = std::min<int64_t>(kTile, positions - key_tile);
      backward_tile<true, T>(arguments, buffers, batch, key_head, key_tile);
      unpack_transposed(dk.row(batch, key_tile, key_head), dk.position_stride, buffers.rows, width, buffers.dk, valid,
                        arguments.head_width, arguments.scale);
      if (arguments.wants_dv)
        unpack_transposed(dv.row(batch, key_tile, key_head), dv.position_stride, buffers.rows, width, buffers.dv, valid,
                          arguments.head_width, A(1));
    }
    for (int64_t g = 0; g < group; ++g) {
      for (int64_t t = 0; t < positions; ++t) {
        T* const to = dq.row(batch, t, key_head * group + g);
        const A* const from = buffers.dq + (g * padded_positions + t) * width;
#pragma omp simd
        for (int64_t d = 0; d < arguments.head_width; ++d) to[d] = T(from[d] * arguments.scale);
      }
    }
  }
}

template <class T>
BackwardArguments<T> backward_arguments(std::span<const AttentionUse> uses, const Tensor& q, const Tensor& k, const Tensor& lse,
                                        const Tensor& row_sum, const Tensor& first_key, double scale, bool wants_dv) {
  using A = accumulator<T>;
  return {Heads<T>(q), Heads<T>(k), lse.data<A>(), row_sum.defined() ? row_sum.data<A>() : nullptr, uses, FirstKeys(first_key, q.dim(1)),
          q.dim(0), q.dim(1), q.dim(2), k.dim(2), q.dim(3), A(scale), wants_dv};
}

}  // namespace

void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale) {
  const AttentionUse use{d_o, Tensor()};
  dispatch_float(q.dtype(), [&]<class T>() {
    value_backward<T>(dv, backward_arguments<T>({&use, 1}, q, k, lse, Tensor(), first_key, scale, true));
  });
}

void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv_of_first_use, std::span<const AttentionUse> uses, const Tensor& q,
                        const Tensor& k, const Tensor& lse, const Tensor& row_sum, const Tensor& first_key, double scale) {
  dispatch_float(q.dtype(), [&]<class T>() {
    block_backward<T>(dq, dk, dv_of_first_use,
                      backward_arguments<T>(uses, q, k, lse, row_sum, first_key, scale, dv_of_first_use.defined()));
  });
}

}  // namespace echo::kernels::cpu
