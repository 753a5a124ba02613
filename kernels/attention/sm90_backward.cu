// The leader's backward step on Hopper (kernels/attention/sm90.cuh): k + 4 products of tiles for a block of k layers (W = 128:
// k + 3, as there are no registers for dv_0, which another kernel makes).
//   dS = P * (sum_j dO_j V_j^T - delta),  dk = scale dS^T q,  dq = scale dS k,  dv_0 = P^T dO_0
// A thread block owns heads of one batch entry, all their queries, and all their keys or every `key_splits`-th tile of 128. Two
// of its warpgroups own 64 keys each. For each tile of 64 queries they form P^T and dP^T, collect dk and dv_0 in registers and
// leave dS^T as bf16 in shared memory, from which the third makes the tile's share of dq. The fourth brings tiles (one warp). S
// and dP of the next tile run beside what is done to this one's dS.
// dq lives in f32 in global memory, where the copy engine adds the shares: an element's shares come from one block, one after
// the other, the next only when the last has been written, so that the sum has the same bits every time. The first keys replace
// what is there. A second kernel adds up the splits and rounds.
// Shared memory (KiB, W = 64 / 128): 16 / 32 of K and of each V, which stay; two slots of 8 / 16 of Q; slots of 8 / 16 of dO,
// at least one more than layers; 32 / 16 of dS; 16 / 32 of dq: room for 5 / 2 layers. More are left to the kernels of
// kernels/attention/sm80_backward.cu. Bytes from and to global memory for 128 keys and 64 queries, 1 (k + 4) MFLOP at W = 64:
// 24 + 8 k KiB, 16 of them dq.
#include <algorithm>

#include "kernels/attention/partials.cuh"
#include "kernels/attention/sm90.cuh"

namespace echo::kernels::cuda::attention::sm90 {
namespace {

constexpr int N = 64, kKeys = 2 * kGroupRows, kThreads = 4 * kGroupThreads, kKeyWarps = 2 * kGroupWarps;
constexpr int kSharedBytes = 227 << 10;  // that a block may have

template <int W, int kLayers>
struct SharedLayout {
  static constexpr bool kValues = W == 64;
  static constexpr int kKeyRegisters = 200, kQueryRegisters = 72, kProducerRegisters = 40;
  static_assert(2 * kKeyRegisters + kQueryRegisters + kProducerRegisters <= registers_of_groups(kThreads));
  static constexpr int kKeyTile = tile_bytes<W>(kKeys), kQueryTile = tile_bytes<W>(N);
  static constexpr int kScoreTile = kKeys * N * int(sizeof(bfloat16)), kShareTile = N * W * int(sizeof(float));
  static constexpr int kQuerySlots = 2, kScoreSlots = W == 64 ? 2 : 1;
  static constexpr int kStatistics = 2 * N;  // of a tile of queries: lse / ln 2, then delta
  static constexpr int kQueriesAt = 0, kScoresAt = kQuerySlots * kQueryTile, kShareAt = kScoresAt + kScoreSlots * kScoreTile;
  static constexpr int kKeysAt = kShareAt + kShareTile, kValuesAt = kKeysAt + kKeyTile,
                       kGradientsAt = kValuesAt + kLayers * kKeyTile;
  static constexpr int kStatisticsBytes = kQuerySlots * kStatistics * int(sizeof(float)), kMostBarriers = 64;
  // Of dO: up to two tiles of queries; one tile and its first layer's again at least.
  static constexpr int kRoom =
      (kSharedBytes - kGradientsAt - kStatisticsBytes - kMostBarriers * int(sizeof(uint64_t))) / kQueryTile;
  static constexpr int kGradientSlots = kRoom < 2 * kLayers ? kRoom : 2 * kLayers;
  static_assert(kGradientSlots > kLayers);
  static constexpr int kStatisticsAt = kGradientsAt + kGradientSlots * kQueryTile,
                       kBarriersAt = kStatisticsAt + kStatisticsBytes;
  static constexpr int kBytes = kBarriersAt + kMostBarriers * int(sizeof(uint64_t));
  static_assert(2 * (1 + kQuerySlots + kScoreSlots + kGradientSlots) <= kMostBarriers);
};

template <int W>
constexpr int kMostLayers = W == 64 ? 5 : 2;

template <int kLayers>
struct UseMaps {
  CUtensorMap d_o[kLayers], v[kLayers];
};

// Where the 16-byte chunk of a row of a tile's share of dq lies: so that the 8 rows that a warp writes at once meet all banks.
template <int W>
__device__ __forceinline__ int share_offset(int row, int chunk) {
  return row * W * int(sizeof(float)) + ((chunk ^ (row & 7) << 1) << 4);
}

// What a block is about.
struct Work {
  int key_splits, split, key_split, key_head, batch, first_head, end_head;

  __device__ __forceinline__ Work(const AttentionProblem<bfloat16>& problem, int splits_of_keys) : key_splits(splits_of_keys) {
    split = int(blockIdx.x) / key_splits, key_split = int(blockIdx.x) % key_splits;
    key_head = int(blockIdx.y), batch = int(blockIdx.z);
    const int heads = problem.heads / problem.key_heads / (int(gridDim.x) / key_splits);
    first_head = key_head * (problem.heads / problem.key_heads) + split * heads, end_head = first_head + heads;
  }
};

// One tile of 128 keys, and the tiles of queries that it meets: head after head, from the keys' own positions on.
struct Walk {
  int row, head, start, end;

  // The first keys of a block meet all later queries, so that every share of dq that is added to is there.
  __device__ __forceinline__ Walk(const AttentionProblem<bfloat16>& problem, const Work& work, int round) {
    row = (round * work.key_splits + (round % 2 == 0 ? work.key_split : work.key_splits - 1 - work.key_split)) * kKeys;
    head = work.first_head, start = row, end = problem.positions;
    if (round > 0 && row < problem.positions) end = uniform(column_range<Side::keys, N, kKeys>(problem, work.batch, row).end);
    if (start >= end) end = min(row + 1, problem.positions);  // one tile at least
  }
  __device__ __forceinline__ bool exists(const AttentionProblem<bfloat16>& problem) const { return row < problem.positions; }
  __device__ __forceinline__ void next_tile() {
    start += N;
    if (start >= end) ++head, start = row;
  }
};

template <int W, int kLayers>
__global__ void __launch_bounds__(kThreads, 1)
    leader_gradients(const __grid_constant__ CUtensorMap query_map, const __grid_constant__ CUtensorMap key_map,
                     const __grid_constant__ UseMaps<kLayers> maps, const HeadView<bfloat16> dk, const HeadView<bfloat16> dv,
                     float* const partial, float* const partial_dv, float* const shares,
                     const AttentionProblem<bfloat16> problem, const float* const lse, const float* const delta,
                     const int key_splits) {
  using Layout = SharedLayout<W, kLayers>;
  unsigned char* const memory = shared_memory();
  float* const statistics = reinterpret_cast<float*>(memory + Layout::kStatisticsAt);
  const Ring<1> keys{reinterpret_cast<uint64_t*>(memory + Layout::kBarriersAt)};
  const Ring<Layout::kQuerySlots> queries{keys.barriers + 2};
  const Ring<Layout::kScoreSlots> shared_scores{queries.barriers + 2 * Layout::kQuerySlots};
  const Ring<Layout::kGradientSlots> gradients{shared_scores.barriers + 2 * Layout::kScoreSlots};
  const int group = uniform(int(threadIdx.x) / kGroupThreads);
  if (threadIdx.x == 0) {
    keys.start(1, kKeyWarps + kGroupWarps);
    queries.start(kWarp, kKeyWarps);
    shared_scores.start(kKeyWarps, kGroupWarps);
    gradients.start(1, kKeyWarps);
    publish_barriers();
  }
  __syncthreads();
  const Work work(problem, key_splits);
  int taken = 0;  // tiles of queries

  if (group == 3) {  // ---- brings tiles ------------------------------------------------------------------------------------
    release_registers<Layout::kProducerRegisters>();
    if (int(threadIdx.x) >= 3 * kGroupThreads + kWarp) return;
    const bool asks = lane_number() == 0;
    for (int round = 0;; ++round) {
      Walk walk(problem, work, round);
      if (!walk.exists(problem)) break;
      keys.wait_empty(round);
      if (asks) {
        arrive_expecting(keys.full(round), (1 + kLayers) * Layout::kKeyTile);
        copy_panels<W, kKeys>(memory + Layout::kKeysAt, key_map, keys.full(round), work.key_head, walk.row, work.batch);
        for (int layer = 0; layer < kLayers; ++layer)
          copy_panels<W, kKeys>(memory + Layout::kValuesAt + layer * Layout::kKeyTile, maps.v[layer], keys.full(round),
                                work.key_head, walk.row, work.batch);
      }
      for (; walk.head < work.end_head; walk.next_tile(), ++taken) {
        const int slot = queries.slot(taken);
        queries.wait_empty(taken);
        for (int i = lane_number(); i < N; i += kWarp) {
          const int query = walk.start + i;
          const bool exists = query < problem.positions;
          const int64_t at = exists ? problem.statistic(work.batch, walk.head, query) : 0;
          statistics[slot * Layout::kStatistics + i] = exists ? lse[at] * kLog2E : kInfinity;
          statistics[slot * Layout::kStatistics + N + i] = exists ? delta[at] : 0.0f;
        }
        if (!asks) arrive(queries.full(taken));
        if (asks) {
          arrive_expecting(queries.full(taken), Layout::kQueryTile);
          copy_panels<W, N>(memory + Layout::kQueriesAt + slot * Layout::kQueryTile, query_map, queries.full(taken), walk.head,
                            walk.start, work.batch);
        }
        for (int i = 0; i < kLayers; ++i) {
          const int gradient = taken * kLayers + i, at = gradients.slot(gradient);
          gradients.wait_empty(gradient);
          if (!asks) continue;
          arrive_expecting(gradients.full(gradient), Layout::kQueryTile);
          copy_panels<W, N>(memory + Layout::kGradientsAt + at * Layout::kQueryTile, maps.d_o[kLayers - 1 - i],
                            gradients.full(gradient), walk.head, walk.start, work.batch);
        }
      }
    }
    return;
  }

  if (group == 2) {  // ---- shares of dq ------------------------------------------------------------------------------------
    release_registers<Layout::kQueryRegisters>();
    const int lane = lane_number(), warp_row = int(threadIdx.x) / kWarp % kGroupWarps * 16;
    const int64_t tiles = (problem.positions + N - 1) / N;
    unsigned char* const share = memory + Layout::kShareAt;
    for (int round = 0;; ++round) {
      Walk walk(problem, work, round);
      if (!walk.exists(problem)) break;
      keys.wait_full(round);
      for (; walk.head < work.end_head; walk.next_tile(), ++taken) {
        const unsigned char* const score_tile = memory + Layout::kScoresAt + shared_scores.slot(taken) * Layout::kScoreTile;
        shared_scores.wait_full(taken);
#pragma unroll 1
        for (int panel = 0; panel < W / 64; ++panel) {  // of 64 columns
          float sums[8][4];
          const uint64_t left = shared_operand(score_tile),
                         right = shared_operand(memory + Layout::kKeysAt + panel * kKeys * 128);
          start_products(sums);
#pragma unroll
          for (int k = 0; k < kKeys / 16; ++k)
            multiply_shared<true, true>(sums, left + k * 16 * 128 / 16, right + k * 16 * 128 / 16, k > 0);
          commit_products();
          wait_products<0>(sums);
          if (panel == W / 64 - 1) shared_scores.release(taken);
          if (panel == 0) {
            if (threadIdx.x % kGroupThreads == 0) wait_stores<0>();
            wait_barrier(1, kGroupThreads);  // the last share has left
          }
#pragma unroll
          for (int n = 0; n < 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half)
              *reinterpret_cast<float2*>(
                  share + share_offset<W>(warp_row + 8 * half + lane / 4, panel * 16 + 2 * n + lane % 4 / 2) + lane % 2 * 8) =
                  make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
          }
        }
        publish_shared_writes();
        wait_barrier(1, kGroupThreads);
        if (threadIdx.x % kGroupThreads == 0) {
          const int64_t index =
              ((int64_t(work.key_split) * problem.batches + work.batch) * problem.heads + walk.head) * tiles + walk.start / N;
          const auto* const from = reinterpret_cast<const float*>(share);
          if (round == 0)
            store_async(shares + index * (N * W), from, Layout::kShareTile);
          else
            add_async(shares + index * (N * W), from, Layout::kShareTile);
          commit_stores();
        }
      }
      keys.release(round);
      if (threadIdx.x % kGroupThreads == 0) wait_all_stores();  // before anything else is added to them
    }
    return;
  }

  // ---- keys: P, dS, dk, dv_0
  // -------------------------------------------------------------------------------------------------
  claim_registers<Layout::kKeyRegisters>();
  const int warp_row = int(threadIdx.x) / kWarp * 16, lane = lane_number();
  const int group_offset = group * kGroupRows * 128;
  const float scale_log2 = problem.scale * kLog2E;
  for (int round = 0;; ++round) {
    Walk walk(problem, work, round);
    if (!walk.exists(problem)) break;
    const int row = walk.row + warp_row;
    unsigned char* const value_tiles = memory + Layout::kValuesAt;
    float scores[1][N / 8][4], products[N / 8][4], result[1][W / 8][4] = {}, values[1][Layout::kValues ? W / 8 : 1][4] = {};
    uint32_t p_weights[N / 16][4], s_weights[N / 16][4];

    const auto query_tile = [&](int count) { return memory + Layout::kQueriesAt + queries.slot(count) * Layout::kQueryTile; };
    // dO of a tile: of the last layer first.
    const auto gradient_tile = [&](int gradient) {
      return memory + Layout::kGradientsAt + gradients.slot(gradient) * Layout::kQueryTile;
    };
    // Starts S and dP of a tile, and waits for S. A layer's product is a group: the compiler ends one at each start_products()
    // anyway.
    const auto start_tile = [&](int count) {
      queries.wait_full(count);
      start_products(scores[0], products);
      multiply_tiles<W, kKeys, N>(scores[0], memory + Layout::kKeysAt + group_offset, query_tile(count), false);
      commit_products();
#pragma unroll
      for (int i = 0; i < kLayers; ++i) {
        gradients.wait_full(count * kLayers + i);
        start_products();
        multiply_tiles<W, kKeys, N>(products, value_tiles + (kLayers - 1 - i) * Layout::kKeyTile + group_offset,
                                    gradient_tile(count * kLayers + i), i > 0);
        commit_products();
      }
      wait_products<kLayers>(scores[0]);
    };
    const auto take_tile = [&]<bool kMore>() {
      const float* const of_tile = statistics + queries.slot(taken) * Layout::kStatistics;
      do {
        if (misses_any<Side::keys, N, 16>(problem, row, walk.start))
          mask<Side::keys, N>(scores, problem, work.batch, row, walk.start);
        to_probabilities_of_columns<N, true>(scores[0], of_tile, scale_log2);
      } while (key_splits < 0);  // once; but the compiler may not move exponentials behind the wait below
      wait_products<0>(products);
      const int last = taken * kLayers + kLayers - 1;  // dO of the block's first layer
#pragma unroll
      for (int i = kLayers - 1; i > 0; --i) gradients.release(last - i);
      if constexpr (Layout::kValues) {
        pack_weights<N>(p_weights, scores[0]);
        start_products(values[0], p_weights);
        multiply_weights<W, N>(values[0], p_weights, gradient_tile(last));
        commit_products();
      }
#pragma unroll
      for (int n = 0; n < N / 8; ++n) {
        const float2 sums = *reinterpret_cast<const float2*>(of_tile + N + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[0][n][i] *= products[n][i] - (i % 2 == 0 ? sums.x : sums.y);
      }
      pack_weights<N>(s_weights, scores[0]);
      shared_scores.wait_empty(taken);
      unsigned char* const score_tile = memory + Layout::kScoresAt + shared_scores.slot(taken) * Layout::kScoreTile;
#pragma unroll
      for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int key = warp_row + 8 * half + lane / 4;
          *reinterpret_cast<uint32_t*>(score_tile + key * 128 + ((n ^ (key & 7)) << 4) + lane % 4 * 4) =
              s_weights[n / 2][n % 2 * 2 + half];
        }
      }
      publish_shared_writes();
      __syncwarp();
      if (lane == 0) arrive(shared_scores.full(taken));
      start_products(result[0], s_weights);
      multiply_weights<W, N>(result[0], s_weights, query_tile(taken));
      commit_products();
      if constexpr (kMore) start_tile(taken + 1);
      wait_products<kMore ? kLayers : 0>(result[0], values[0], s_weights, p_weights);
      gradients.release(last);
      queries.release(taken);
      ++taken;
    };

    keys.wait_full(round);
    start_tile(taken);
    for (Walk next = walk; next.next_tile(), next.head < work.end_head; walk = next) take_tile.template operator()<true>();
    take_tile.template operator()<false>();

    wait_barrier(2 + group, kGroupThreads);  // no warp of the group reads its rows of V_0 any more
    if (row < problem.positions) {
      unsigned char* const own_rows = value_tiles + warp_row * 128;
      if (partial != nullptr) {
        store_partial<W>(partial, problem, work.split, work.batch, row, work.key_head, result);
        if constexpr (Layout::kValues)
          if (dv.data != nullptr) store_partial<W>(partial_dv, problem, work.split, work.batch, row, work.key_head, values);
      } else {
        const float one[2] = {1, 1}, scales[2] = {problem.scale, problem.scale};
        store_rows<W, kKeys>(dk, work.batch, row, work.key_head, problem.positions, problem.width, result[0], scales, own_rows);
        if constexpr (Layout::kValues)
          if (dv.data != nullptr)
            store_rows<W, kKeys>(dv, work.batch, row, work.key_head, problem.positions, problem.width, values[0], one,
                                 own_rows);
      }
    }
    publish_shared_writes();
    keys.release(round);
  }
}

// dq = scale * shares, summed over the splits of keys that reach a query. A thread owns 8 neighbours of a row.
template <int W>
__global__ void __launch_bounds__(256)
    collect_queries(const HeadView<bfloat16> dq, const float* const shares, const AttentionProblem<bfloat16> problem,
                    const int key_splits, const int64_t vectors) {
  const int64_t vector = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (vector >= vectors) return;
  const int per_row = problem.width / 8, chunk = int(vector % per_row), head = int(vector / per_row % problem.heads);
  const int64_t at = vector / per_row / problem.heads, batch = at / problem.positions;
  const int position = int(at % problem.positions), row = position % N;
  const int64_t tiles = (problem.positions + N - 1) / N;
  float sums[8] = {};
  for (int split = 0; split < key_splits && split * kKeys <= position / N * N; ++split) {
    const int64_t tile = ((split * problem.batches + batch) * problem.heads + head) * tiles + position / N;
    const auto* const from = reinterpret_cast<const unsigned char*>(shares + tile * (N * W));
    float low[4], high[4];
    load_vector(low, reinterpret_cast<const float*>(from + share_offset<W>(row, 2 * chunk)));
    load_vector(high, reinterpret_cast<const float*>(from + share_offset<W>(row, 2 * chunk + 1)));
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += low[i], sums[4 + i] += high[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[i] *= problem.scale;
  store_vector(dq.row(batch, position, head) + 8 * chunk, sums);
}

// Blocks: each takes `group / splits` heads of a group and every key_splits-th tile of keys.
struct Schedule {
  int splits, key_splits;
};
Schedule schedule_of(const AttentionProblem<bfloat16>& problem) {
  const int group = problem.heads / problem.key_heads, key_tiles = int(blocks_for(problem.positions, kKeys));
  Schedule best = {1, 1};
  double least = 0;
  for (int splits = 1; splits <= group; ++splits) {
    if (group % splits != 0) continue;
    for (int key_splits = 1; key_splits <= std::min(key_tiles, 8); ++key_splits) {
      const int64_t blocks = int64_t(problem.batches) * problem.key_heads * splits * key_splits;
      // The time of the busiest multiprocessor; each further split's share of dq is written and read once more.
      const double time = double(blocks_for(blocks, echo::cuda::properties().multiprocessors)) * (group / splits) / key_splits *
                          (1 + 0.04 * (key_splits - 1));
      if (least == 0 || time < least) least = time, best = {splits, key_splits};
    }
  }
  return best;
}

template <int W, int kLayers>
void run(const Tensor& dq, const Tensor& dk, const Tensor& dv, std::span<const SharingLayer> layers,
         const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  using Layout = SharedLayout<W, kLayers>;
  const Schedule schedule = schedule_of(problem);
  const Tensor own_dv = Layout::kValues ? dv : Tensor();
  const Partials dk_partials(problem, schedule.splits, dk.device());
  const Partials dv_partials(problem, own_dv.defined() ? schedule.splits : 1, dk.device());
  const int64_t tiles = blocks_for(problem.positions, N);
  const Tensor shares =
      Tensor::empty({schedule.key_splits, problem.batches, problem.heads, tiles, N * W}, DType::f32, dq.device());
  UseMaps<kLayers> maps;
  for (size_t i = 0; i < layers.size(); ++i) {
    maps.d_o[i] = tile_map(head_view<bfloat16>(layers[i].d_o), problem, problem.heads, N);
    maps.v[i] = tile_map(head_view<bfloat16>(layers[i].v), problem, problem.key_heads, kKeys);
  }
  const dim3 grid(unsigned(schedule.splits * schedule.key_splits), unsigned(problem.key_heads), unsigned(problem.batches));
  launch(leader_gradients<W, kLayers>, grid, kThreads, Layout::kBytes, stream(), tile_map(problem.q, problem, problem.heads, N),
         tile_map(problem.k, problem, problem.key_heads, kKeys), maps, head_view<bfloat16>(dk), head_view<bfloat16>(own_dv),
         dk_partials.data(), dv_partials.data(), shares.data<float>(), problem, lse.data<float>(), delta.data<float>(),
         schedule.key_splits);
  dk_partials.add_up(dk, problem.scale);
  if (own_dv.defined())
    dv_partials.add_up(dv, 1);
  else if (dv.defined())
    value_backward(dv, layers[0].d_o, problem, lse);
  const int64_t vectors = int64_t(problem.batches) * problem.positions * problem.heads * (problem.width / 8);
  launch(collect_queries<W>, blocks_for(vectors, 256), 256, 0, stream(), head_view<bfloat16>(dq), shares.data<float>(), problem,
         schedule.key_splits, vectors);
}

// Calls run() for as many layers as there are.
template <int W, int kLayers = 1>
void run_layers(const Tensor& dq, const Tensor& dk, const Tensor& dv, std::span<const SharingLayer> layers,
                const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  if (int(layers.size()) == kLayers) return run<W, kLayers>(dq, dk, dv, layers, problem, lse, delta);
  if constexpr (kLayers < kMostLayers<W>) run_layers<W, kLayers + 1>(dq, dk, dv, layers, problem, lse, delta);
}

}  // namespace

bool has_room(const AttentionProblem<bfloat16>& problem, int layers) {
  return layers <= (problem.width <= 64 ? kMostLayers<64> : kMostLayers<128>);
}

void backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, std::span<const SharingLayer> layers,
              const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  problem.width <= 64 ? run_layers<64>(dq, dk, dv, layers, problem, lse, delta)
                      : run_layers<128>(dq, dk, dv, layers, problem, lse, delta);
}

}  // namespace echo::kernels::cuda::attention::sm90
