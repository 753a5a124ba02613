// Attention's passes of two products on Hopper (kernels/attention/sm90.cuh): forward of leaders and followers, where a block's
// rows are queries, the first product takes K and the second V; and dv = P^T dO, where rows are keys, and Q and dO the columns.
// Blocks stay: each multiprocessor has one, which takes row blocks (items) of 64 rows for each of its warpgroups, the longest
// first, while its producer is ahead with the next tiles. Items are dealt out back and forth, so that sums of long and short
// ones come out equal.
// Of a tile, S = rows . first^T runs beside the product of the previous tile's P with its second operand, and P is made of S
// while that still runs. One warpgroup's exponentials run beside the products of others.
// A leader keeps the row's maximum and takes it off the scores; a follower and dv take off lse: no maximum, no sum, no
// division. Shared memory: 2 row tiles, kSlots tiles each of both operands of 96 or 128 columns: 146 KiB (W = 64), 193 KiB (W =
// 128). Bytes from global memory per item: rows and results once, both operands of the columns that are seen once.
#include <algorithm>

#include "kernels/attention/partials.cuh"
#include "kernels/attention/sm90.cuh"

namespace echo::kernels::cuda::attention::sm90 {
namespace {

enum class Pass { leader, follower, value_gradient };

template <int W, Pass kPass>
struct SharedLayout {
  static constexpr Side kSide = kPass == Pass::value_gradient ? Side::keys : Side::queries;
  static constexpr bool kOfKeys = kSide == Side::keys;
  // Warpgroups that compute. With W = 64 three have registers enough; all registers of a multiprocessor are given out.
  static constexpr int kGroups = W == 64 ? 3 : 2, kRows = kGroups * kGroupRows, kThreads = (kGroups + 1) * kGroupThreads;
  static constexpr int kProducerRegisters = W == 64 ? 32 : 24, kRegisters = W == 64 ? 160 : 240;
  static_assert(kGroups * kRegisters + kProducerRegisters <= registers_of_groups(kThreads));
  static constexpr int kColumns = W == 64 ? 96 : 128, kRowSlots = 2, kSlots = W == 64 ? 4 : 2;
  static constexpr int kRowTile = tile_bytes<W>(kRows), kColumnTile = tile_bytes<W>(kColumns);
  static constexpr int kFirstAt = kRowSlots * kRowTile, kSecondAt = kFirstAt + kSlots * kColumnTile;
  // Of a tile of queries: lse / ln 2, and whether one of them is large.
  static constexpr int kOffsetsAt = kSecondAt + kSlots * kColumnTile, kOffsets = kColumns + 2;
  static constexpr int kBarriersAt = kOffsetsAt + (kOfKeys ? kSlots * kOffsets * int(sizeof(float)) : 0);
  static constexpr int kBytes = kBarriersAt + 2 * (kRowSlots + 2 * kSlots) * int(sizeof(uint64_t));
};

// A block of rows and the columns that it walks over: tiles of kColumns from range.begin, head after head.
template <int W, Pass kPass>
struct Item {
  using Layout = SharedLayout<W, kPass>;
  int batch, row, across;  // across: the head of queries, or the part `split` of a key head's group
  int key_head, split = 0;
  int head, end_head, start;  // of the tile; for rows that are queries `head` is the key head
  Range range;

  __device__ __forceinline__ Item(const AttentionProblem<bfloat16>& problem, int number, int splits) {
    const int group = problem.heads / problem.key_heads, width = Layout::kOfKeys ? problem.key_heads * splits : problem.heads;
    const int blocks = (problem.positions + Layout::kRows - 1) / Layout::kRows;
    across = number % width, batch = number / width % problem.batches;
    const int block = number / width / problem.batches;
    row = (Layout::kOfKeys ? block : blocks - 1 - block) * Layout::kRows;
    if constexpr (Layout::kOfKeys) {
      key_head = across / splits, split = across % splits;
      head = across * (group / splits), end_head = head + group / splits;
    } else {
      key_head = head = across / group, end_head = head + 1;
    }
    const Range seen = column_range<Layout::kSide, Layout::kColumns, Layout::kRows>(problem, batch, row);
    range = {uniform(seen.begin), uniform(seen.end)};
    start = range.begin;
    if (range.begin >= range.end) head = end_head;
  }
  __device__ __forceinline__ bool has_tile() const { return head < end_head; }
  __device__ __forceinline__ void next_tile() {
    start += Layout::kColumns;
    if (start >= range.end) ++head, start = range.begin;
  }
};

// The item that a block takes in a round: rounds go through the blocks forth and back.
__device__ __forceinline__ int item_of(int round) {
  const int blocks = int(gridDim.x), block = int(blockIdx.x);
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

// What a lane keeps of its two rows.
struct RunningRows {
  float highest[2] = {-kInfinity, -kInfinity};
  float offset[2];    // the exponent that highest stands for; 0 for a row that has seen no key
  float sum[2] = {};  // over this lane's columns only
  float factor[2];    // what the last tile's maximum does to what was there

  // Probabilities relative to the maximum so far, in place of the scores.
  template <int N>
  __device__ __forceinline__ void add_scores(float (&scores)[N / 8][4], float scale_log2) {
    float top[2] = {highest[0], highest[1]}, base[2];
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
      factor[row] = fast_exp2((highest[row] - base[row]) * scale_log2);
      highest[row] = top[row];
      sum[row] *= factor[row];
    }
    // Of large exponents the difference is taken first, which is exact.
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

template <int W, Pass kPass>
__global__ void __launch_bounds__(SharedLayout<W, kPass>::kThreads, 1)
    take_rows(const __grid_constant__ CUtensorMap row_map, const __grid_constant__ CUtensorMap first_map,
              const __grid_constant__ CUtensorMap second_map, const HeadView<bfloat16> to, float* const partial,
              float* const lse, const AttentionProblem<bfloat16> problem, const int splits, const int items) {
  using Layout = SharedLayout<W, kPass>;
  constexpr int N = Layout::kColumns;
  unsigned char* const memory = shared_memory();
  float* const offsets = reinterpret_cast<float*>(memory + Layout::kOffsetsAt);
  uint64_t* const barriers = reinterpret_cast<uint64_t*>(memory + Layout::kBarriersAt);
  const Ring<Layout::kRowSlots> rows{barriers};
  const Ring<Layout::kSlots> first{barriers + 2 * Layout::kRowSlots}, second{first.barriers + 2 * Layout::kSlots};
  const int group = uniform(int(threadIdx.x) / kGroupThreads);
  if (threadIdx.x == 0) {
    rows.start(1, Layout::kGroups * kGroupWarps);
    first.start(Layout::kOfKeys ? kWarp : 1, Layout::kGroups * kGroupWarps);
    second.start(1, Layout::kGroups * kGroupWarps);
    publish_barriers();
  }
  __syncthreads();

  if (group == Layout::kGroups) {
    release_registers<Layout::kProducerRegisters>();
    if (int(threadIdx.x) >= Layout::kGroups * kGroupThreads + kWarp) return;
    const bool asks = lane_number() == 0;
    int taken = 0;  // tiles
    for (int round = 0; round * int(gridDim.x) < items; ++round) {
      const int number = item_of(round);
      if (number >= items) continue;
      Item<W, kPass> item(problem, number, splits);
      rows.wait_empty(round);
      if (asks) {
        arrive_expecting(rows.full(round), Layout::kRowTile);
        copy_panels<W, Layout::kRows>(memory + rows.slot(round) * Layout::kRowTile, row_map, rows.full(round),
                                      Layout::kOfKeys ? item.key_head : item.across, item.row, item.batch);
      }
      for (; item.has_tile(); item.next_tile(), ++taken) {
        const int slot = first.slot(taken);
        first.wait_empty(taken);
        if constexpr (Layout::kOfKeys) {
          bool large = false;
          for (int i = lane_number(); i < N; i += kWarp) {
            const int query = item.start + i;
            const bool exists = query < problem.positions;
            const float offset = exists ? lse[problem.statistic(item.batch, item.head, query)] * kLog2E : kInfinity;
            offsets[slot * Layout::kOffsets + i] = offset;
            large = large || (exists && is_large(offset));
          }
          large = __any_sync(kAllLanes, large);
          if (asks) offsets[slot * Layout::kOffsets + N] = large ? 1.0f : 0.0f;
          if (!asks) arrive(first.full(taken));
        }
        if (asks) {
          arrive_expecting(first.full(taken), Layout::kColumnTile);
          copy_panels<W, N>(memory + Layout::kFirstAt + slot * Layout::kColumnTile, first_map, first.full(taken), item.head,
                            item.start, item.batch);
        }
        second.wait_empty(taken);
        if (asks) {
          arrive_expecting(second.full(taken), Layout::kColumnTile);
          copy_panels<W, N>(memory + Layout::kSecondAt + slot * Layout::kColumnTile, second_map, second.full(taken), item.head,
                            item.start, item.batch);
        }
      }
    }
    return;
  }

  claim_registers<Layout::kRegisters>();
  const int warp_row = int(threadIdx.x) / kWarp * 16, lane = lane_number();
  const float scale_log2 = problem.scale * kLog2E;
  int taken = 0;  // tiles
  for (int round = 0; round * int(gridDim.x) < items; ++round) {
    const int number = item_of(round);
    if (number >= items) continue;
    Item<W, kPass> item(problem, number, splits);
    const int group_row = item.row + group * kGroupRows, row = item.row + warp_row;
    unsigned char* const row_tile = memory + rows.slot(round) * Layout::kRowTile;
    const unsigned char* const own_rows = row_tile + group * kGroupRows * 128;
    float scores[1][N / 8][4], result[1][W / 8][4] = {};
    uint32_t weights[N / 16][4];
    RunningRows running;
    float offsets_of_rows[2];
    bool large = false;
    if constexpr (kPass == Pass::follower) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int query = row + 8 * i + lane / 4;
        offsets_of_rows[i] =
            query < problem.positions ? lse[problem.statistic(item.batch, item.across, query)] * kLog2E : kInfinity;
        large = large || (query < problem.positions && is_large(offsets_of_rows[i]));
      }
      large = __any_sync(kAllLanes, large);
    }

    // Tiles that none of the warpgroup's rows sees. While a product is put off there is at most one, so that the slots suffice.
    const auto skip_unseen = [&] {
      while (item.has_tile() && !sees_any<Layout::kSide, N, kGroupRows>(problem.positions, group_row, item.start)) {
        first.wait_full(taken);
        first.release(taken);
        second.wait_full(taken);
        second.release(taken);
        ++taken;
        item.next_tile();
      }
    };
    const auto first_tile = [&](int count) { return memory + Layout::kFirstAt + first.slot(count) * Layout::kColumnTile; };
    const auto second_tile = [&](int count) { return memory + Layout::kSecondAt + second.slot(count) * Layout::kColumnTile; };
    const auto make_probabilities = [&] {
      if (misses_any<Layout::kSide, N, 16>(problem, row, item.start))
        mask<Layout::kSide, N>(scores, problem, item.batch, row, item.start);
      if constexpr (kPass == Pass::leader)
        running.add_scores<N>(scores[0], scale_log2);
      else if constexpr (kPass == Pass::follower)
        large ? to_probabilities_of_rows<N, true>(scores[0], offsets_of_rows, scale_log2)
              : to_probabilities_of_rows<N, false>(scores[0], offsets_of_rows, scale_log2);
      else if (const float* const of_tile = offsets + first.slot(taken) * Layout::kOffsets; of_tile[N] != 0.0f)
        to_probabilities_of_columns<N, true>(scores[0], of_tile, scale_log2);
      else
        to_probabilities_of_columns<N, false>(scores[0], of_tile, scale_log2);
    };

    rows.wait_full(round);
    skip_unseen();
    if (item.has_tile()) {
      first.wait_full(taken);
      start_products(scores[0]);
      multiply_tiles<W, Layout::kRows, N>(scores[0], own_rows, first_tile(taken), false);
      commit_products();
      wait_products<0>(scores[0]);
      make_probabilities();
      first.release(taken);
      pack_weights<N>(weights, scores[0]);
      int put_off = taken++;  // the tile whose second product is still to come
      item.next_tile();
#pragma unroll 1
      while (true) {
        skip_unseen();
        if (!item.has_tile()) break;
        first.wait_full(taken);
        start_products(scores[0]);
        multiply_tiles<W, Layout::kRows, N>(scores[0], own_rows, first_tile(taken), false);
        commit_products();
        second.wait_full(put_off);
        start_products(result[0], weights);
        multiply_weights<W, N>(result[0], weights, second_tile(put_off));
        commit_products();
        wait_products<1>(scores[0]);
        do {
          make_probabilities();
        } while (splits < 0);  // once; but the compiler may not move exponentials behind the wait below
        first.release(taken);
        wait_products<0>(result[0], weights);
        second.release(put_off);
        if constexpr (kPass == Pass::leader) {
#pragma unroll
          for (int n = 0; n < W / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) result[0][n][i] *= running.factor[i / 2];
          }
        }
        pack_weights<N>(weights, scores[0]);
        put_off = taken++;
        item.next_tile();
      }
      second.wait_full(put_off);
      start_products(result[0], weights);
      multiply_weights<W, N>(result[0], weights, second_tile(put_off));
      commit_products();
      wait_products<0>(result[0], weights);
      second.release(put_off);
    }

    wait_barrier(1 + group, kGroupThreads);  // no warp of the group reads its rows any more
    float factor[2] = {1, 1};
    if constexpr (kPass == Pass::leader) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sum = running.sum[i];
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        sum += __shfl_xor_sync(kAllLanes, sum, 2);
        factor[i] = 1.0f / sum;
        const int query = row + 8 * i + lane / 4;
        if (lane % 4 == 0 && query < problem.positions)
          lse[problem.statistic(item.batch, item.across, query)] =
              logf(sum) + (running.highest[i] == -kInfinity ? -kInfinity : running.offset[i] * kLn2);
      }
    }
    if (Layout::kOfKeys && partial != nullptr)
      store_partial<W>(partial, problem, item.split, item.batch, row, item.key_head, result);
    else
      store_rows<W, Layout::kRows>(to, item.batch, row, Layout::kOfKeys ? item.key_head : item.across, problem.positions,
                                   problem.width, result[0], factor, row_tile + warp_row * 128);
    publish_shared_writes();
    rows.release(round);
  }
}

template <int W, Pass kPass>
void run(const HeadView<bfloat16>& to, const HeadView<bfloat16>& second, float* partial, float* lse,
         const AttentionProblem<bfloat16>& problem, int splits) {
  using Layout = SharedLayout<W, kPass>;
  const CUtensorMap queries = tile_map(problem.q, problem, problem.heads, Layout::kOfKeys ? Layout::kColumns : Layout::kRows);
  const CUtensorMap keys = tile_map(problem.k, problem, problem.key_heads, Layout::kOfKeys ? Layout::kRows : Layout::kColumns);
  const CUtensorMap others = tile_map(second, problem, Layout::kOfKeys ? problem.heads : problem.key_heads, Layout::kColumns);
  const int64_t items = int64_t(blocks_for(problem.positions, Layout::kRows)) * problem.batches *
                        (Layout::kOfKeys ? problem.key_heads * splits : problem.heads);
  const int64_t blocks = std::min<int64_t>(items, echo::cuda::properties().multiprocessors);
  launch(take_rows<W, kPass>, unsigned(blocks), Layout::kThreads, Layout::kBytes, stream(), Layout::kOfKeys ? keys : queries,
         Layout::kOfKeys ? queries : keys, others, to, partial, lse, problem, splits, int(items));
}

}  // namespace

void forward(const Tensor& o, const Tensor& lse, const AttentionProblem<bfloat16>& problem, const Tensor& v, bool shared) {
  const auto of_width = [&]<int W>() {
    const auto pass = shared ? run<W, Pass::follower> : run<W, Pass::leader>;
    pass(head_view<bfloat16>(o), head_view<bfloat16>(v), nullptr, lse.data<float>(), problem, 1);
  };
  problem.width <= 64 ? of_width.operator()<64>() : of_width.operator()<128>();
}

void value_backward(const Tensor& dv, const Tensor& d_o, const AttentionProblem<bfloat16>& problem, const Tensor& lse) {
  const auto of_width = [&]<int W>() {
    const int splits = group_splits(problem, SharedLayout<W, Pass::value_gradient>::kRows, 4);
    const Partials partials(problem, splits, dv.device());
    run<W, Pass::value_gradient>(head_view<bfloat16>(dv), head_view<bfloat16>(d_o), partials.data(), lse.data<float>(), problem,
                                 splits);
    partials.add_up(dv, 1);
  };
  problem.width <= 64 ? of_width.operator()<64>() : of_width.operator()<128>();
}

}  // namespace echo::kernels::cuda::attention::sm90
