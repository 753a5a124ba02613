#pragma once

#include <type_traits>

#include "kernels/attention/partials.cuh"
#include "kernels/attention/sm90.cuh"

// The roles of the warpgroups of attention_rows() in kernels/attention/sm90_forward.cu, where the algorithm is described: the
// first ones are consumers, compute_rows(), the last one is the producer, load_tiles().
namespace echo::kernels::cuda::attention::sm90 {

using sm80::store_partial;

enum class Operation { forward, shared_forward, value_backward };

template <int W, Operation kOperation>
struct ForwardShape {
  static constexpr bool kOfKeys = kOperation == Operation::value_backward;  // rows are keys
  static constexpr Side kSide = kOfKeys ? Side::keys : Side::queries;
  // Consumers. With W = 64 there are registers for three of them. All registers of a multiprocessor are used.
  static constexpr int kGroups = W == 64 ? 3 : 2, kRows = kGroups * kGroupRows, kThreads = (kGroups + 1) * kGroupThreads;
  static constexpr int kProducerRegisters = W == 64 ? 32 : 24, kRegisters = W == 64 ? 160 : 240;
  static_assert(kGroups * kRegisters + kProducerRegisters <= registers_of_groups(kThreads));
  static constexpr int kColumns = W == 64 ? 96 : 128, kRowStages = 2, kStages = W == 64 ? 4 : 2;
  static constexpr int kRowBytes = tile_bytes<W>(kRows), kColumnBytes = tile_bytes<W>(kColumns);
};

// The kernel's arguments. The tensor maps must be a `const __grid_constant__` parameter. The rest must not be one, because its
// members would be read from memory again after every barrier.
struct ForwardMaps {
  CUtensorMap rows, first, second;
};
struct ForwardArguments {
  HeadView<bfloat16> to;  // the result
  float* partial;         // value_backward: (splits, B, T, Hkv, Dh), or null if the heads of a group are not split
  float* lse;             // (B, H, T); written by forward, read by the others
  AttentionProblem<bfloat16> problem;
  int splits;  // of the heads of a group; 1 unless rows are keys
  int work_tiles;
};

// A block's shared memory. Tiles are aligned to 1024 bytes.
template <int W, Operation kOperation>
struct ForwardMemory : ForwardShape<W, kOperation> {
  using Base = ForwardShape<W, kOperation>;
  struct alignas(8) ColumnStatistics {
    float offsets[Base::kColumns];  // lse / ln 2, infinity beyond the last query
    float is_large;                 // 1 or 0: whether is_large() holds for one of them
  };
  struct Nothing {};

  unsigned char rows[Base::kRowStages][Base::kRowBytes];
  unsigned char first[Base::kStages][Base::kColumnBytes];
  unsigned char second[Base::kStages][Base::kColumnBytes];
  [[no_unique_address]] std::conditional_t<Base::kOfKeys, ColumnStatistics[Base::kStages], Nothing> statistics;
  Pipeline<Base::kRowStages> row_pipeline;  // of rows; counts work tiles
  Pipeline<Base::kStages> first_pipeline;   // of first and statistics; counts tiles of columns
  Pipeline<Base::kStages> second_pipeline;  // of second; likewise

  // One thread calls it, before the block's first barrier.
  __device__ __forceinline__ void start_pipelines() {
    row_pipeline.start(1, Base::kGroups * kGroupWarps);
    first_pipeline.start(Base::kOfKeys ? kWarp : 1, Base::kGroups * kGroupWarps);
    second_pipeline.start(1, Base::kGroups * kGroupWarps);
    publish_barriers();
  }
};

// A block of kRows rows, and the tiles of kColumns columns that it sees: from range.begin on, head after head.
template <int W, Operation kOperation>
struct WorkTile : ForwardShape<W, kOperation> {
  using Base = ForwardShape<W, kOperation>;
  int batch, row, row_head;
  int split = 0;              // of the heads of the key head's group
  int head, end_head, start;  // of the current tile of columns: head and first column
  Range range;

  __device__ __forceinline__ WorkTile(const AttentionProblem<bfloat16>& problem, int number, int splits) {
    const int group = problem.heads / problem.key_heads, width = Base::kOfKeys ? problem.key_heads * splits : problem.heads;
    const int blocks = (problem.positions + Base::kRows - 1) / Base::kRows;
    const int across = number % width, block = number / width / problem.batches;
    batch = number / width % problem.batches;
    row = (Base::kOfKeys ? block : blocks - 1 - block) * Base::kRows;
    if constexpr (Base::kOfKeys) {
      row_head = across / splits, split = across % splits;
      head = across * (group / splits), end_head = head + group / splits;
    } else {
      row_head = across;
      head = across / group, end_head = head + 1;
    }
    const Range seen = column_range<Base::kSide, Base::kColumns, Base::kRows>(problem, batch, row);
    range = {uniform(seen.begin), uniform(seen.end)};
    start = range.begin;
    if (range.begin >= range.end) head = end_head;
  }
  __device__ __forceinline__ bool has_tile() const { return head < end_head; }
  __device__ __forceinline__ void next() {
    start += Base::kColumns;
    if (start >= range.end) ++head, start = range.begin;
  }
};

// The number of a block's work tile `index`. Work tiles are assigned to the blocks in alternating direction.
__device__ __forceinline__ int work_tile_number(int index) {
  const int blocks = int(gridDim.x), block = int(blockIdx.x);
  return index * blocks + (index % 2 == 0 ? block : blocks - 1 - block);
}

// ---- producer ------------------------------------------------------------------------------------------------------------
// Writes lse / ln 2 of kColumns queries to shared memory, and whether one of them is large. One warp calls it.
template <int kColumns, class Statistics>
__device__ __forceinline__ void load_statistics(Statistics& statistics, const AttentionProblem<bfloat16>& problem,
                                                const float* lse, int batch, int head, int start) {
  bool large = false;
  for (int i = lane_number(); i < kColumns; i += kWarp) {
    const int query = start + i;
    const bool exists = query < problem.positions;
    const float offset = exists ? lse[problem.statistic(batch, head, query)] * kLog2E : kInfinity;
    statistics.offsets[i] = offset;
    large = large || (exists && is_large(offset));
  }
  large = __any_sync(kAllLanes, large);
  if (lane_number() == 0) statistics.is_large = large ? 1.0f : 0.0f;
}

// Loads the rows of each work tile, then the tiles of both operands that they see. One warp does this, and one of its lanes
// starts the copies.
template <int W, Operation kOperation>
__device__ __forceinline__ void load_tiles(ForwardMemory<W, kOperation>& shared, const ForwardMaps& maps,
                                           const ForwardArguments& arguments) {
  using S = ForwardShape<W, kOperation>;
  release_registers<S::kProducerRegisters>();
  if (int(threadIdx.x) >= S::kGroups * kGroupThreads + kWarp) return;
  const bool is_issuing_lane = lane_number() == 0;
  int tile = 0;  // of columns, over all work tiles
  for (int index = 0; index * int(gridDim.x) < arguments.work_tiles; ++index) {
    const int number = work_tile_number(index);
    if (number >= arguments.work_tiles) continue;
    WorkTile<W, kOperation> work(arguments.problem, number, arguments.splits);
    shared.row_pipeline.wait_empty(index);
    if (is_issuing_lane) {
      uint64_t* const full = shared.row_pipeline.full(index);
      arrive_expecting(full, S::kRowBytes);
      copy_panels<W, S::kRows>(shared.rows[shared.row_pipeline.stage(index)], maps.rows, full, work.row_head, work.row,
                               work.batch);
    }
    for (; work.has_tile(); work.next(), ++tile) {
      const int stage = shared.first_pipeline.stage(tile);
      uint64_t* const full = shared.first_pipeline.full(tile);
      shared.first_pipeline.wait_empty(tile);
      if constexpr (S::kOfKeys) {
        load_statistics<S::kColumns>(shared.statistics[stage], arguments.problem, arguments.lse, work.batch, work.head,
                                     work.start);
        if (!is_issuing_lane) arrive(full);
      }
      if (is_issuing_lane) {
        arrive_expecting(full, S::kColumnBytes);
        copy_panels<W, S::kColumns>(shared.first[stage], maps.first, full, work.head, work.start, work.batch);
      }
      shared.second_pipeline.wait_empty(tile);
      if (is_issuing_lane) {
        arrive_expecting(shared.second_pipeline.full(tile), S::kColumnBytes);
        copy_panels<W, S::kColumns>(shared.second[stage], maps.second, shared.second_pipeline.full(tile), work.head, work.start,
                                    work.batch);
      }
    }
  }
}

// ---- consumers -----------------------------------------------------------------------------------------------------------
// The online softmax of a lane's two rows.
struct RunningSoftmax {
  float maximum[2] = {-kInfinity, -kInfinity};
  float offset[2];    // the exponent that belongs to the maximum; 0 for a row that has not seen a key
  float sum[2] = {};  // over this lane's columns only
  float rescale[2];   // the factor by which the last tile's maximum changes earlier results

  // In place: score -> probability relative to the maximum so far.
  template <int N>
  __device__ __forceinline__ void add_scores(float (&scores)[N / 8][4], float scale_log2) {
    float top[2] = {maximum[0], maximum[1]}, base[2];
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) top[i / 2] = fmaxf(top[i / 2], scores[n][i]);
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      top[row] = fmaxf(top[row], __shfl_xor_sync(kAllLanes, top[row], 1));
      top[row] = fmaxf(top[row], __shfl_xor_sync(kAllLanes, top[row], 2));
      base[row] = top[row] == -kInfinity ? 0.0f : top[row];
      offset[row] = base[row] * scale_log2;
      rescale[row] = fast_exp2((maximum[row] - base[row]) * scale_log2);
      maximum[row] = top[row];
      sum[row] *= rescale[row];
    }
    // With large exponents the difference, which is exact, is computed first.
    const bool large = __any_sync(kAllLanes, is_large(offset[0]) || is_large(offset[1]));
    const auto exponentiate = [&](auto&& exponent) {
#pragma unroll
      for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          scores[n][i] = fast_exp2(exponent(scores[n][i], i / 2));
          sum[i / 2] += scores[n][i];
        }
      }
    };
    if (large)
      exponentiate([&](float score, int row) { return (score - base[row]) * scale_log2; });
    else
      exponentiate([&](float score, int row) { return score * scale_log2 - offset[row]; });
  }
};

// The registers of a consumer thread for its 64 rows: its fragments (kernels/cuda/warpgroup.cuh), and the statistics of its two
// rows. These structs must have no other members: the compiler splits them into registers only after it has unrolled all loops
// over their arrays.
template <int W, int N>
struct RowFragments {
  float scores[1][N / 8][4];  // S, then P
  float result[1][W / 8][4] = {};
  uint32_t weights[N / 16][4];  // P as a left operand
};
struct RowStatistics {
  RunningSoftmax softmax;  // forward
  float offsets[2];        // shared_forward: lse / ln 2
  bool large = false;      // shared_forward: whether is_large() holds for an offset of the warp
};

// A consumer's 64 rows of a work tile, with the operations on its fragments.
template <int W, Operation kOperation>
struct RowGroup : ForwardShape<W, kOperation> {
  using Base = ForwardShape<W, kOperation>;
  static constexpr int N = Base::kColumns;
  using Fragments = RowFragments<W, N>;

  ForwardMemory<W, kOperation>& shared;
  const ForwardArguments& arguments;
  WorkTile<W, kOperation> work;
  const int group_row, row;  // the first row of the warpgroup, and of the warp
  unsigned char* const row_tile;
  const unsigned char* const own_rows;  // the warpgroup's, in row_tile

  __device__ __forceinline__ RowGroup(ForwardMemory<W, kOperation>& memory, const ForwardArguments& kernel_arguments, int group,
                                      int index)
      : shared(memory),
        arguments(kernel_arguments),
        work(arguments.problem, work_tile_number(index), arguments.splits),
        group_row(work.row + group * kGroupRows),
        row(work.row + int(threadIdx.x) / kWarp * 16),
        row_tile(shared.rows[shared.row_pipeline.stage(index)]),
        own_rows(row_tile + group * kGroupRows * 128) {}

  // shared_forward: reads lse of the lane's two rows.
  __device__ __forceinline__ void load_offsets(RowStatistics& statistics) const {
    const AttentionProblem<bfloat16>& problem = arguments.problem;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = row + 8 * i + lane_number() / 4;
      statistics.offsets[i] =
          query < problem.positions ? arguments.lse[problem.statistic(work.batch, work.row_head, query)] * kLog2E : kInfinity;
      statistics.large = statistics.large || (query < problem.positions && is_large(statistics.offsets[i]));
    }
    statistics.large = __any_sync(kAllLanes, statistics.large);
  }

  // Releases tiles that none of the warpgroup's rows sees. While a second product is pending there is at most one such tile, so
  // there are enough stages.
  __device__ __forceinline__ void skip_unseen(int& tile) {
    while (work.has_tile() && !sees_any<Base::kSide, N, kGroupRows>(arguments.problem.positions, group_row, work.start)) {
      shared.first_pipeline.wait_full(tile);
      shared.first_pipeline.release(tile);
      shared.second_pipeline.wait_full(tile);
      shared.second_pipeline.release(tile);
      ++tile;
      work.next();
    }
  }

  // Starts S of a tile.
  __device__ __forceinline__ void start_scores(Fragments& f, int tile) const {
    shared.first_pipeline.wait_full(tile);
    start_products(f.scores[0]);
    multiply_tiles<W, Base::kRows, N>(f.scores[0], own_rows, shared.first[shared.first_pipeline.stage(tile)], false);
    commit_products();
  }
  // Starts result += P . second of a tile.
  __device__ __forceinline__ void start_result(Fragments& f, int tile) const {
    shared.second_pipeline.wait_full(tile);
    start_products(f.result[0], f.weights);
    multiply_weights<W, N>(f.result[0], f.weights, shared.second[shared.second_pipeline.stage(tile)]);
    commit_products();
  }

  // Replaces the scores S of the current tile by the probabilities P.
  __device__ __forceinline__ void make_probabilities(Fragments& f, RowStatistics& statistics, int tile,
                                                     float scale_log2) const {
    if (misses_any<Base::kSide, N, 16>(arguments.problem, row, work.start))
      mask<Base::kSide, N>(f.scores, arguments.problem, work.batch, row, work.start);
    if constexpr (kOperation == Operation::forward) {
      statistics.softmax.template add_scores<N>(f.scores[0], scale_log2);
    } else if constexpr (kOperation == Operation::shared_forward) {
      statistics.large ? to_probabilities_of_rows<N, true>(f.scores[0], statistics.offsets, scale_log2)
                       : to_probabilities_of_rows<N, false>(f.scores[0], statistics.offsets, scale_log2);
    } else {
      const auto& columns = shared.statistics[shared.first_pipeline.stage(tile)];
      columns.is_large != 0.0f ? to_probabilities_of_columns<N, true>(f.scores[0], columns.offsets, scale_log2)
                               : to_probabilities_of_columns<N, false>(f.scores[0], columns.offsets, scale_log2);
    }
  }

  // Computes both products of all tiles that the rows see. Advances `tile` to the block's next tile of columns.
  __device__ __forceinline__ void multiply(Fragments& f, RowStatistics& statistics, int& tile) {
    const float scale_log2 = arguments.problem.scale * kLog2E;
    skip_unseen(tile);
    if (!work.has_tile()) return;
    start_scores(f, tile);
    wait_products<0>(f.scores[0]);
    make_probabilities(f, statistics, tile, scale_log2);
    shared.first_pipeline.release(tile);
    pack_weights<N>(f.weights, f.scores[0]);
    int pending = tile++;  // the tile whose second product has not been started
    work.next();
#pragma unroll 1
    while (true) {
      skip_unseen(tile);
      if (!work.has_tile()) break;
      start_scores(f, tile);
      start_result(f, pending);
      wait_products<1>(f.scores[0]);
      keep_before_wait(arguments.splits < 0, [&] { make_probabilities(f, statistics, tile, scale_log2); });
      shared.first_pipeline.release(tile);
      wait_products<0>(f.result[0], f.weights);
      shared.second_pipeline.release(pending);
      if constexpr (kOperation == Operation::forward) {
#pragma unroll
        for (int n = 0; n < W / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) f.result[0][n][i] *= statistics.softmax.rescale[i / 2];
        }
      }
      pack_weights<N>(f.weights, f.scores[0]);
      pending = tile++;
      work.next();
    }
    start_result(f, pending);
    wait_products<0>(f.result[0], f.weights);
    shared.second_pipeline.release(pending);
  }

  // Writes the result, or the block's part of it, and in forward also lse. The result passes through the warp's rows of
  // row_tile, so no warp of the group may still read these.
  __device__ __forceinline__ void store(const Fragments& f, const RowStatistics& statistics) const {
    const AttentionProblem<bfloat16>& problem = arguments.problem;
    float factor[2] = {1, 1};
    if constexpr (kOperation == Operation::forward) {
      const RunningSoftmax& softmax = statistics.softmax;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sum = softmax.sum[i];
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        sum += __shfl_xor_sync(kAllLanes, sum, 2);
        factor[i] = 1.0f / sum;
        const int query = row + 8 * i + lane_number() / 4;
        if (lane_number() % 4 == 0 && query < problem.positions)
          arguments.lse[problem.statistic(work.batch, work.row_head, query)] =
              logf(sum) + (softmax.maximum[i] == -kInfinity ? -kInfinity : softmax.offset[i] * kLn2);
      }
    }
    if (Base::kOfKeys && arguments.partial != nullptr)
      store_partial<W>(arguments.partial, problem, work.split, work.batch, row, work.row_head, f.result);
    else
      store_rows<W, Base::kRows>(arguments.to, problem, work.batch, row, work.row_head, f.result[0], factor,
                                 row_tile + (row - work.row) * 128);
  }
};

// A consumer: processes 64 rows of each work tile.
template <int W, Operation kOperation>
__device__ __forceinline__ void compute_rows(ForwardMemory<W, kOperation>& shared, const ForwardArguments& arguments,
                                             int group) {
  claim_registers<ForwardShape<W, kOperation>::kRegisters>();
  int tile = 0;  // of columns, over all work tiles
  for (int index = 0; index * int(gridDim.x) < arguments.work_tiles; ++index) {
    if (work_tile_number(index) >= arguments.work_tiles) continue;
    RowGroup<W, kOperation> rows(shared, arguments, group, index);
    typename RowGroup<W, kOperation>::Fragments fragments;
    RowStatistics statistics;
    if constexpr (kOperation == Operation::shared_forward) rows.load_offsets(statistics);
    shared.row_pipeline.wait_full(index);
    rows.multiply(fragments, statistics, tile);

    wait_barrier(1 + group, kGroupThreads);  // from here on no warp of the group reads its rows
    rows.store(fragments, statistics);
    publish_shared_writes();
    shared.row_pipeline.release(index);
  }
}

}  // namespace echo::kernels::cuda::attention::sm90
