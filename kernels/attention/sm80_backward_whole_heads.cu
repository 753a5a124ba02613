// The leader's backward step on tensor cores in one kernel, where there are heads enough for that: k + 4 products of tiles for
// a block of k layers, where the kernels of kernels/attention/sm80_backward.cu take 2 k + 5. A thread block owns whole heads of
// one batch entry, all their keys and queries. For 256 keys after 256 keys, and for each tile of queries that sees them, its
// 8 warps (32 keys each) form P^T and dP^T as those kernels do and collect dk and dv_0 in registers; then dS goes through
// shared memory as bf16, and dQ of the tile grows by dS K.
// dQ lives in f32 in global memory until its last share, as no tile of it stays for long. Nobody else touches these rows, and
// an element belongs to the same thread each time, so that sums need neither atomics nor barriers and have the same bits every
// time. The first keys that meet a tile write; the last ones are those at the queries' own positions (keys ascend), and what
// they leave is dq. (256 keys and not 128, as each element of dQ travels twice for each tile of keys.) Every second tile of
// keys takes the queries backwards: what the cache still holds is used first.
// Where one block takes several heads of a group in turn, or all, dk and dv_0 grow on in registers; the rest is left to
// kernels/attention/partials.cuh.
// Shared memory: 32 KiB of K and of each V, which stay for a tile of keys; two stages of 32 rows of Q; two of 32 rows of as
// many dO as fit, which is one barrier's work; 16 kParts KiB of dS, kParts = 2 or 1 times 32 queries; row statistics: 113 KiB
// for one layer, 217 KiB for four. Bytes from and to global memory for 256 keys and 64 queries, 2 (k + 4) MFLOP: 40 + 8 k KiB,
// 32 of them dQ.
// Layers whose V do not all fit (more than 5 in 227 KiB, more than 3 in 163 KiB) are left to the other kernels, as V would come
// again with every 32 queries, which is several times the bytes of everything else. So are heads of more than 64 columns: dk
// and dv_0 of 32 keys take all registers then.
#include "kernels/attention/sm80.cuh"

namespace echo::kernels::cuda::attention::sm80 {
namespace {

constexpr int W = 64, N = 32;  // columns of a head; queries whose scores a warp holds
constexpr int kHeadWarps = 8, kHeadThreads = kHeadWarps * kWarp, kKeys = kHeadWarps * kWarpRows;
constexpr int kKeyTile = tile_bytes<W>(kKeys), kQueryTile = tile_bytes<W>(N);
static_assert(kKeys % 64 == 0 && kQueryTile == 16 * kHeadThreads);

// A tile has kParts times N queries, in rows of 128 bytes of dS^T.
template <int kParts>
struct SharedLayout {
  static constexpr int kQueries = kParts * N;
  static constexpr int kKeysAt = 0, kQueriesAt = kKeyTile, kScoresAt = kQueriesAt + 2 * kQueryTile;
  static constexpr int kStatisticsAt = kScoresAt + kKeys * kQueries * int(sizeof(bfloat16));
  static constexpr int kBoundsAt = kStatisticsAt + 2 * kQueries * int(sizeof(float)), kValuesAt = kBoundsAt + 128;
  static size_t bytes(int layers, int step_layers) {
    return size_t(kValuesAt) + size_t(kKeyTile) * size_t(layers) + 2 * size_t(kQueryTile) * size_t(step_layers);
  }
};

// Where the bf16 pair of key `row` and queries 8 chunk + 2 member + {0, 1} of a tile lies in dS^T.
template <int kParts>
__device__ __forceinline__ int score_offset(int row, int chunk) {
  if constexpr (kParts == 2)
    return tile_offset<64>(row, chunk);
  else  // two rows to 128 bytes
    return row * 64 + ((chunk ^ (row / 2 & 3)) << 4);
}

// dS of the warp's 32 keys and N queries, rounded to bf16; zeros from warps whose keys no query sees.
template <int kParts>
__device__ __forceinline__ void store_scores(unsigned char* tile, int row, int part, const float (&scores)[2][N / 8][4]) {
  const int lane = opaque(lane_number());
#pragma unroll
  for (int half = 0; half < 4; ++half) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
      const float(&values)[4] = scores[half / 2][n];
      *reinterpret_cast<uint32_t*>(tile + score_offset<kParts>(row + 8 * half + lane / 4, part * (N / 8) + n) + lane % 4 * 4) =
          pack_bf16(values[half % 2 * 2], values[half % 2 * 2 + 1]);
    }
  }
}

// A warp's part of dQ of a tile: 16 queries and 16 kParts columns.
template <int kParts>
struct QueryPart {
  static constexpr int kGroups = 2 * kParts;  // of 16 queries
  __device__ __forceinline__ QueryPart() {
    const int warp = opaque(int(threadIdx.x)) / kWarp;
    query = warp % kGroups * 16, column = warp / kGroups * 16 * kParts;
  }
  int query, column;
};

// sums += dS K over the first `keys` of the tile, a multiple of 32.
template <int kParts>
__device__ __forceinline__ void add_query_products(float (&sums)[N / 8][4], const unsigned char* scores,
                                                   const unsigned char* key_rows, int keys) {
  const QueryPart<kParts> part;
  const int lane = opaque(lane_number());
  const unsigned char* left = scores + score_offset<kParts>(lane / 16 * 8 + lane % 8, part.query / 8 + lane / 8 % 2);
  const unsigned char* right[kParts];
#pragma unroll
  for (int n = 0; n < kParts; ++n) right[n] = key_rows + tile_offset<W>(lane % 16, part.column / 8 + 2 * n + lane / 16);
#pragma unroll 1
  for (int key = 0; key < keys; key += 32) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      uint32_t a[4];
      load_matrices_transposed(a, left + k * 16 * 64 * kParts);
#pragma unroll
      for (int n = 0; n < kParts; ++n) {
        uint32_t b[4];
        load_matrices_transposed(b, right[n] + k * 32 * W);
        multiply_bf16(sums[2 * n], a, {b[0], b[1]});
        multiply_bf16(sums[2 * n + 1], a, {b[2], b[3]});
      }
    }
    left += 32 * 64 * kParts;
#pragma unroll
    for (int n = 0; n < kParts; ++n) right[n] += 64 * W;
  }
}

// `step_layers`: layers whose dO arrive together.
template <int kParts>
__global__ void __launch_bounds__(kHeadThreads, 1)
    whole_heads(HeadView<bfloat16> dq, HeadView<bfloat16> dk, HeadView<bfloat16> dv, float* partial, float* partial_dv,
                float* dq_sums, SharingLayers<bfloat16> layers, AttentionProblem<bfloat16> problem, const float* lse,
                const float* delta, float inverse_scale, int block_heads, int step_layers) {
  using Layout = SharedLayout<kParts>;
  constexpr int kQueries = Layout::kQueries;
  unsigned char* const memory = shared_memory();
  unsigned char* const score_tile = memory + Layout::kScoresAt;
  unsigned char* const d_o_tiles = memory + Layout::kValuesAt + layers.count * kKeyTile;
  float* const statistics = reinterpret_cast<float*>(memory + Layout::kStatisticsAt);  // offsets of a tile, sums of a tile
  // Queries before bounds[0] have sums of dQ; bounds[1] is where the last tile of queries starts. Then a place for each warp.
  int* const bounds = reinterpret_cast<int*>(memory + Layout::kBoundsAt);
  const int split = int(blockIdx.x), key_head = int(blockIdx.y), batch = int(blockIdx.z);
  const int first_head = (key_head * int(gridDim.x) + split) * block_heads, end_head = first_head + block_heads;
  const int positions = problem.positions;
  const int warp_row = int(threadIdx.x) / kWarp * kWarpRows, own = tile_bytes<W>(warp_row);
  const float scale_log2 = problem.scale * kLog2E;
  const bool wants_values = dv.data != nullptr;

  const auto copy_rows = [&](const HeadView<bfloat16>& from, Tile tile, unsigned char* to) {
    copy_tile<W, N, kHeadThreads>(to, from, problem, batch, tile.head, tile.start);
  };
  // dO of layers `last`, `last` - 1, ... as one step takes them.
  const auto copy_step = [&](Tile tile, int last, int stage) {
#pragma unroll 1
    for (int i = 0; i < step_layers && i <= last; ++i)
      copy_rows(layers.of[last - i].d_o, tile, d_o_tiles + (stage * step_layers + i) * kQueryTile);
  };
  struct Statistics {
    float offset, negative_sum;
  };
  const auto statistics_of = [&](Tile tile) -> Statistics {  // of one query per thread
    const int query = tile.start + int(threadIdx.x);
    if (query >= positions) return {-kInfinity, 0};
    const int64_t at = problem.statistic(batch, tile.head, query);
    return {-lse[at] * inverse_scale, -delta[at]};
  };
  const auto keep_statistics = [&](const Statistics& of_query) {
    statistics[threadIdx.x] = of_query.offset;
    statistics[kQueries + threadIdx.x] = of_query.negative_sum;
  };

  // Where this thread's part of a tile's dQ lies.
  const auto sums_of = [&](Tile tile) {
    const int64_t tiles = (positions + kQueries - 1) / kQueries;
    const int64_t index = (int64_t(batch) * problem.heads + tile.head) * tiles + tile.start / kQueries;
    return dq_sums + (index * 2 * kParts * kHeadThreads + opaque(int(threadIdx.x))) * 4;
  };

  if (threadIdx.x == 0) bounds[1] = -kQueries;
#pragma unroll 1
  for (int block_row = 0; block_row < positions; block_row += kKeys) {
    const int row = block_row + warp_row;
    int end = positions;  // of the queries that see these keys, or are at their positions
    if (problem.first_key != nullptr) {
      const int keys_end = opaque(block_row + kKeys);
      end = min(keys_end, positions);
      for (int query = keys_end + int(threadIdx.x); query < positions; query += kHeadThreads)
        if (problem.first_key_of(batch, query) < keys_end) end = query + 1;
      end = warp_max(end);
    }
    if (lane_number() == 0) bounds[2 + opaque(int(threadIdx.x)) / kWarp] = end;
    __syncthreads();  // all warps' ends are there, and no warp stores results through the last tile
    if (threadIdx.x == 0) {
      for (int warp = 0; warp < kHeadWarps; ++warp) end = max(end, bounds[2 + warp]);
      bounds[0] = bounds[1] + kQueries;
      bounds[1] = block_row + (end - block_row - 1) / kQueries * kQueries;
    }
    __syncthreads();
    const bool backwards = block_row / kKeys % 2 != 0;
    const auto next = [&](Tile tile) -> Tile {
      if (backwards) return tile.start > block_row ? Tile{tile.head, tile.start - kQueries} : Tile{tile.head - 1, bounds[1]};
      return tile.start < bounds[1] ? Tile{tile.head, tile.start + kQueries} : Tile{tile.head + 1, block_row};
    };
    const auto exists = [&](Tile tile) { return tile.head >= first_head && tile.head < end_head; };

    Tile tile = backwards ? Tile{end_head - 1, bounds[1]} : Tile{first_head, block_row};
    int stage = 0;
    copy_tile<W, kKeys, kHeadThreads>(memory + Layout::kKeysAt, problem.k, problem, batch, key_head, block_row);
#pragma unroll 1
    for (int layer = 0; layer < layers.count; ++layer) {
      const HeadView<bfloat16>& v = layers.of[layer].v;
      copy_tile<W, kKeys, kHeadThreads>(memory + Layout::kValuesAt + layer * kKeyTile, v, problem, batch, key_head, block_row);
    }
    int odd_tile = 0;
    copy_rows(problem.q, tile, memory + Layout::kQueriesAt);
    copy_step(tile, layers.count - 1, stage);
    commit_copies();
    if (threadIdx.x < kQueries) keep_statistics(statistics_of(tile));

    float result[2][W / 8][4] = {}, values[2][W / 8][4] = {};
#pragma unroll 1
    while (exists(tile)) {
      // dP^T, and once dS is made of it this thread's part of dQ of the tile, so that both have the same registers.
      float products[2][N / 8][4];
#pragma unroll 1
      for (int part = 0; part < kParts; ++part) {
        const int column = tile.start + part * N;
        const bool active = sees_any<Side::keys, N, kWarpRows>(positions, row, column);
        const int q_stage = kParts == 2 ? part : odd_tile;
        const unsigned char* const q_tile = memory + Layout::kQueriesAt + q_stage * kQueryTile;
        float scores[2][N / 8][4];
        // Not what the last tile left: that would occupy registers.
#pragma unroll
        for (int i = 0; i < N; ++i) products[i / (N / 2)][i / 4 % (N / 8)][i % 4] = 0;
#pragma unroll 1
        for (int last = layers.count - 1; last >= 0; last -= step_layers) {
          wait_copies<0>();
          __syncthreads();  // this step's tiles are there, and no warp reads the last step's, nor dS of the last tile
          if (last >= step_layers) {
            copy_step({tile.head, column}, last - step_layers, stage ^ 1);
          } else if (const Tile follower = part + 1 < kParts ? Tile{tile.head, column + N} : next(tile); exists(follower)) {
            copy_rows(problem.q, follower, memory + Layout::kQueriesAt + (q_stage ^ 1) * kQueryTile);
            copy_step(follower, layers.count - 1, stage ^ 1);
          }
          commit_copies();
          if (active) {
            if (last == layers.count - 1) {
              start_from_columns<N>(scores, statistics + part * N);
              start_from_columns<N>(products, statistics + kQueries + part * N);
              add_products<W, N>(scores, memory + Layout::kKeysAt + own, q_tile);
              if (misses_any<Side::keys, N, kWarpRows>(problem, row, column))
                mask<Side::keys, N>(scores, problem, batch, row, column);
              to_probabilities<N>(scores, scale_log2);
            }
            const unsigned char* d_o_tile = d_o_tiles + stage * step_layers * kQueryTile;
#pragma unroll 1
            for (int layer = last; layer >= 0 && layer > last - step_layers; --layer, d_o_tile += kQueryTile) {
              add_products<W, N>(products, memory + Layout::kValuesAt + layer * kKeyTile + own, d_o_tile);
              if (layer == 0 && wants_values) add_weighted<W, N>(values, scores, d_o_tile);
            }
          }
          stage ^= 1;
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) scores[m][n][i] = active ? scores[m][n][i] * products[m][n][i] : 0.0f;
          }
        }
        if (part == kParts - 1) {
#pragma unroll
          for (int i = 0; i < 8 * kParts; ++i) products[0][i / 4][i % 4] = 0;
          if (tile.start < bounds[0]) {
            const float* const so_far = sums_of(tile);
#pragma unroll
            for (int n = 0; n < 2 * kParts; ++n) load_vector(products[0][n], so_far + n * kHeadThreads * 4);
          }
        }
        store_scores<kParts>(score_tile, warp_row, part, scores);
        if (active) add_weighted<W, N>(result, scores, q_tile);
      }

      Statistics next_statistics = {};
      if (threadIdx.x < kQueries && exists(next(tile))) next_statistics = statistics_of(next(tile));
      __syncthreads();  // dS is there, and no warp reads this tile's statistics
      add_query_products<kParts>(products[0], score_tile, memory + Layout::kKeysAt,
                                 min(tile.start + kQueries - block_row, kKeys));
      if (tile.start < block_row + kKeys) {
        const QueryPart<kParts> part;
        const int query = tile.start + part.query + lane_number() / 4;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (query + 8 * i >= positions) continue;
          bfloat16* const to = dq.row(batch, query + 8 * i, tile.head) + lane_number() % 4 * 2;
#pragma unroll
          for (int n = 0; n < 2 * kParts; ++n) {
            if (part.column + 8 * n < problem.width)
              *reinterpret_cast<uint32_t*>(to + part.column + 8 * n) =
                  pack_bf16(products[0][n][2 * i] * problem.scale, products[0][n][2 * i + 1] * problem.scale);
          }
        }
      } else {
        float* const to = sums_of(tile);
#pragma unroll
        for (int n = 0; n < 2 * kParts; ++n) store_vector(to + n * kHeadThreads * 4, products[0][n]);
      }
      if (threadIdx.x < kQueries) keep_statistics(next_statistics);
      tile = next(tile), odd_tile ^= 1;
    }
    __syncthreads();  // the tiles are free
    if (row >= positions) continue;
    const float one[4] = {1, 1, 1, 1}, scales[4] = {problem.scale, problem.scale, problem.scale, problem.scale};
    unsigned char* const own_rows = memory + Layout::kKeysAt + own;
    if (partial != nullptr) {
      store_partial<W>(partial, problem, split, batch, row, key_head, result);
      if (wants_values) store_partial<W>(partial_dv, problem, split, batch, row, key_head, values);
    } else {
      store_rows<W>(dk, problem, batch, row, key_head, result, scales, own_rows);
      if (wants_values) store_rows<W>(dv, problem, batch, row, key_head, values, one, own_rows);
    }
  }
}

// Heads of a group that a block takes in turn: as many as leave no multiprocessor without work for longer.
struct Schedule {
  int splits;      // blocks per group
  int64_t rounds;  // heads that the busiest multiprocessor takes
};
Schedule schedule_of(const AttentionProblem<bfloat16>& problem) {
  const int group = problem.heads / problem.key_heads, multiprocessors = echo::cuda::properties().multiprocessors;
  Schedule best = {};
  for (int splits = 1; splits <= group; ++splits) {
    if (group % splits != 0) continue;
    const int64_t blocks = int64_t(problem.batches) * problem.key_heads * splits;
    const int64_t rounds = blocks_for(blocks, multiprocessors) * int64_t(group / splits);
    if (best.splits == 0 || rounds < best.rounds) best = {splits, rounds};
  }
  return best;
}

// Layers whose dO one step takes, in steps of about one size; 0 where even one has no room.
template <int kParts>
int step_layers_of(int layers) {
  const int64_t available = echo::cuda::properties().shared_bytes_per_block;
  for (int steps = 1; steps <= layers; ++steps) {
    const int step_layers = (layers + steps - 1) / steps;
    if (int64_t(SharedLayout<kParts>::bytes(layers, step_layers)) <= available) return step_layers;
  }
  return 0;
}

}  // namespace

bool takes_whole_heads(const AttentionProblem<bfloat16>& problem, int layers) {
  return problem.width <= W && step_layers_of<1>(layers) > 0;
}

bool whole_heads_are_quicker(const AttentionProblem<bfloat16>& problem, int layers) {
  // Products that one multiprocessor waits for; the other kernels' blocks are small enough to fill them all.
  const int64_t heads = int64_t(problem.batches) * problem.heads;
  return (layers + 4) * schedule_of(problem).rounds * echo::cuda::properties().multiprocessors <= (2 * layers + 5) * heads;
}

void whole_heads_backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
                          const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  const int count = int(layers.size()), splits = schedule_of(problem).splits;
  const Partials dk_partials(problem, splits, dk.device()), dv_partials(problem, dv.defined() ? splits : 1, dk.device());
  Tensor dq_sums;  // of whole tiles, each in the order of its threads
  if (problem.positions > kKeys) {
    const int64_t rows = int64_t(blocks_for(problem.positions, 2 * N)) * 2 * N;
    dq_sums = Tensor::empty({problem.batches, problem.heads, rows, W}, DType::f32, dq.device());
  }
  const auto run = [&]<int kParts>() {
    const int step_layers = step_layers_of<kParts>(count);
    launch(whole_heads<kParts>, dim3(unsigned(splits), unsigned(problem.key_heads), unsigned(problem.batches)), kHeadThreads,
           SharedLayout<kParts>::bytes(count, step_layers), stream(), head_view<bfloat16>(dq), head_view<bfloat16>(dk),
           head_view<bfloat16>(dv), dk_partials.data(), dv_partials.data(), data_or_null<float>(dq_sums),
           layers_of<bfloat16>(layers), problem, lse.data<float>(), delta.data<float>(), 1 / problem.scale,
           problem.heads / problem.key_heads / splits, step_layers);
  };
  step_layers_of<2>(count) > 0 ? run.operator()<2>() : run.operator()<1>();
  dk_partials.add_up(dk, problem.scale);
  if (dv.defined()) dv_partials.add_up(dv, 1);
}

}  // namespace echo::kernels::cuda::attention::sm80
