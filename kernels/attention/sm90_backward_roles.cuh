#pragma once

#include <algorithm>

#include "kernels/attention/partials.cuh"
#include "kernels/attention/sm90.cuh"

// The roles of the four warpgroups of backward_tiles() in kernels/attention/sm90_backward.cu, where the algorithm is described:
//   0, 1  compute_dk_dv()  consumers, which own 64 keys each
//   2     compute_dq()     consumer of dS
//   3     load_tiles()     producer
namespace echo::kernels::cuda::attention::sm90 {

using sm80::store_partial;

inline constexpr int kQueries = 64, kKeys = 2 * kGroupRows;  // of a tile
inline constexpr int kThreads = 4 * kGroupThreads, kKeyWarps = 2 * kGroupWarps;
inline constexpr int kKeyRegisters = 200, kQueryRegisters = 72, kProducerRegisters = 40;  // per thread
static_assert(2 * kKeyRegisters + kQueryRegisters + kProducerRegisters <= registers_of_groups(kThreads));

// The kernel's arguments. The tensor maps must be a `const __grid_constant__` parameter. The rest must not be one, because its
// members would be read from memory again after every barrier.
template <int kLayers>
struct BackwardMaps {
  CUtensorMap q, k;                      // tiles of kQueries and kKeys positions
  CUtensorMap d_o[kLayers], v[kLayers];  // likewise
};
struct BackwardArguments {
  HeadView<bfloat16> dk, dv;       // dv of the first layer; if its data is null, no dv is computed
  float *partial_dk, *partial_dv;  // (splits of heads, B, T, Hkv, Dh), or null if the heads are not split
  float* dq_accum;                 // (key_splits, B, H, tiles of queries, kQueries, W), rows as in dq_offset()
  AttentionProblem<bfloat16> problem;
  const float *lse, *delta;  // (B, H, T)
  int key_splits;            // blocks that share the tiles of keys of the same heads
};

// A block's shared memory. Tiles are aligned to 1024 bytes.
template <int W, int kLayers>
struct BackwardMemory {
  static constexpr int kQueryBytes = tile_bytes<W>(kQueries), kKeyBytes = tile_bytes<W>(kKeys);
  static constexpr int kDsBytes = kKeys * kQueries * int(sizeof(bfloat16)), kDqBytes = kQueries * W * int(sizeof(float));
  static constexpr int kQueryStages = 2, kDsStages = W == 64 ? 2 : 1;
  struct Statistics {
    float lse[kQueries];  // / ln 2, infinity beyond the last query
    float delta[kQueries];
  };
  // dO takes the remaining memory: at most two tiles of queries, and at least one tile plus one layer of the next one.
  static constexpr int kMostBytes = 227 << 10, kBarrierBytes = 512;
  static constexpr int kRoom = (kMostBytes - kQueryStages * kQueryBytes - kDsStages * kDsBytes - kDqBytes -
                                (1 + kLayers) * kKeyBytes - kQueryStages * int(sizeof(Statistics)) - kBarrierBytes) /
                               kQueryBytes;
  static constexpr int kGradientStages = std::min(kRoom, 2 * kLayers);
  static_assert(kGradientStages > kLayers);

  unsigned char q[kQueryStages][kQueryBytes];
  unsigned char ds[kDsStages][kDsBytes];  // dS^T as bf16: kKeys rows of kQueries
  unsigned char dq[kDqBytes];             // the contribution of one tile of keys to dq of one tile of queries, f32
  unsigned char k[kKeyBytes];
  unsigned char v[kLayers][kKeyBytes];
  unsigned char d_o[kGradientStages][kQueryBytes];  // for each tile of queries, the last layer comes first
  Statistics statistics[kQueryStages];
  Pipeline<1> key_pipeline;                // of k and v; counts passes
  Pipeline<kQueryStages> query_pipeline;   // of q and statistics; counts tiles of queries
  Pipeline<kDsStages> ds_pipeline;         // of ds; counts tiles of queries
  Pipeline<kGradientStages> d_o_pipeline;  // of d_o; counts kLayers for each tile of queries

  // One thread calls it, before the block's first barrier.
  __device__ __forceinline__ void start_pipelines() {
    key_pipeline.start(1, kKeyWarps + kGroupWarps);
    query_pipeline.start(kWarp, kKeyWarps);
    ds_pipeline.start(kKeyWarps, kGroupWarps);
    d_o_pipeline.start(1, kKeyWarps);
    publish_barriers();
  }
};

template <int W>
constexpr int kMostBackwardLayers = W == 64 ? 5 : 2;

// Offset in bytes of a 16-byte chunk of a row in a tile of dq_accum. The layout puts the 8 rows that a warp writes at once into
// different banks of shared memory.
template <int W>
__device__ __forceinline__ int dq_offset(int row, int chunk) {
  return row * W * int(sizeof(float)) + ((chunk ^ (row & 7) << 1) << 4);
}

// The work of a block: heads [first_head, end_head) of one batch entry, and every key_splits-th of its tiles of keys.
struct BlockWork {
  int key_splits, split, key_split, key_head, batch, first_head, end_head;

  __device__ __forceinline__ BlockWork(const AttentionProblem<bfloat16>& problem, int splits_of_keys)
      : key_splits(splits_of_keys) {
    split = int(blockIdx.x) / key_splits, key_split = int(blockIdx.x) % key_splits;
    key_head = int(blockIdx.y), batch = int(blockIdx.z);
    const int heads = problem.heads / problem.key_heads / (int(gridDim.x) / key_splits);
    first_head = key_head * (problem.heads / problem.key_heads) + split * heads, end_head = first_head + heads;
  }
};

// The tiles of queries of one pass. A pass is one tile of kKeys keys with all tiles of queries that see it: head after head,
// and in each head from the keys' own positions on.
struct QueryTiles {
  int row;               // first key of the pass
  int head, start, end;  // of the current tile: head and first query; end of the queries of each head

  // The first pass of a block covers all later queries, so that all of dq_accum is written before anything is added to it.
  __device__ __forceinline__ QueryTiles(const AttentionProblem<bfloat16>& problem, const BlockWork& work, int pass) {
    row = (pass * work.key_splits + (pass % 2 == 0 ? work.key_split : work.key_splits - 1 - work.key_split)) * kKeys;
    head = work.first_head, start = row, end = problem.positions;
    if (pass > 0 && row < problem.positions)
      end = uniform(column_range<Side::keys, kQueries, kKeys>(problem, work.batch, row).end);
    if (start >= end) end = min(row + 1, problem.positions);  // at least one tile
  }
  // True when the block has this pass.
  __device__ __forceinline__ bool exist(const AttentionProblem<bfloat16>& problem) const { return row < problem.positions; }
  __device__ __forceinline__ void next() {
    start += kQueries;
    if (start >= end) ++head, start = row;
  }
};

// ---- producer ------------------------------------------------------------------------------------------------------------
// Writes the statistics of a tile of queries to shared memory. One warp calls it.
template <class Statistics>
__device__ __forceinline__ void load_statistics(Statistics& statistics, const AttentionProblem<bfloat16>& problem,
                                                const float* lse, const float* delta, int batch, int head, int start) {
  for (int i = lane_number(); i < kQueries; i += kWarp) {
    const int query = start + i;
    const bool exists = query < problem.positions;
    const int64_t at = exists ? problem.statistic(batch, head, query) : 0;
    statistics.lse[i] = exists ? lse[at] * kLog2E : kInfinity;
    statistics.delta[i] = exists ? delta[at] : 0.0f;
  }
}

// Loads K and all V once per pass, then Q, dO of all layers and the statistics of each tile of queries. One warp does this, and
// one of its lanes starts the copies.
template <int W, int kLayers>
__device__ __forceinline__ void load_tiles(BackwardMemory<W, kLayers>& shared, const BackwardMaps<kLayers>& maps,
                                           const BackwardArguments& arguments, const BlockWork& work) {
  using Memory = BackwardMemory<W, kLayers>;
  release_registers<kProducerRegisters>();
  if (int(threadIdx.x) >= 3 * kGroupThreads + kWarp) return;
  const bool is_issuing_lane = lane_number() == 0;
  int tile = 0;  // of queries, over all passes
  for (int pass = 0;; ++pass) {
    QueryTiles tiles(arguments.problem, work, pass);
    if (!tiles.exist(arguments.problem)) break;
    shared.key_pipeline.wait_empty(pass);
    if (is_issuing_lane) {
      uint64_t* const full = shared.key_pipeline.full(pass);
      arrive_expecting(full, (1 + kLayers) * Memory::kKeyBytes);
      copy_panels<W, kKeys>(shared.k, maps.k, full, work.key_head, tiles.row, work.batch);
      for (int layer = 0; layer < kLayers; ++layer)
        copy_panels<W, kKeys>(shared.v[layer], maps.v[layer], full, work.key_head, tiles.row, work.batch);
    }
    for (; tiles.head < work.end_head; tiles.next(), ++tile) {
      const int stage = shared.query_pipeline.stage(tile);
      uint64_t* const full = shared.query_pipeline.full(tile);
      shared.query_pipeline.wait_empty(tile);
      load_statistics(shared.statistics[stage], arguments.problem, arguments.lse, arguments.delta, work.batch, tiles.head,
                      tiles.start);
      if (!is_issuing_lane) arrive(full);
      if (is_issuing_lane) {
        arrive_expecting(full, Memory::kQueryBytes);
        copy_panels<W, kQueries>(shared.q[stage], maps.q, full, tiles.head, tiles.start, work.batch);
      }
      for (int i = 0; i < kLayers; ++i) {
        const int gradient = tile * kLayers + i;
        shared.d_o_pipeline.wait_empty(gradient);
        if (!is_issuing_lane) continue;
        arrive_expecting(shared.d_o_pipeline.full(gradient), Memory::kQueryBytes);
        copy_panels<W, kQueries>(shared.d_o[shared.d_o_pipeline.stage(gradient)], maps.d_o[kLayers - 1 - i],
                                 shared.d_o_pipeline.full(gradient), tiles.head, tiles.start, work.batch);
      }
    }
  }
}

// ---- dq ------------------------------------------------------------------------------------------------------------------
// sums = dS k for 64 columns of k: (kQueries, kKeys) . (kKeys, 64). ds: dS^T. keys: a panel of k. Both in shared memory.
__device__ __forceinline__ void multiply_ds(float (&sums)[8][4], const unsigned char* ds, const unsigned char* keys) {
  const uint64_t left = shared_operand(ds), right = shared_operand(keys);
  start_products(sums);
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k)
    multiply_shared<true, true>(sums, left + k * 16 * 128 / 16, right + k * 16 * 128 / 16, k > 0);
  commit_products();
  wait_products<0>(sums);
}

// Adds dS k of each tile of queries to dq_accum, through shared memory and the copy engine. The parts of an element come from
// one block and in order, and each is added after the previous one has been written. So the bits are always the same.
template <int W, int kLayers>
__device__ __forceinline__ void compute_dq(BackwardMemory<W, kLayers>& shared, const BackwardArguments& arguments,
                                           const BlockWork& work) {
  using Memory = BackwardMemory<W, kLayers>;
  release_registers<kQueryRegisters>();
  const AttentionProblem<bfloat16>& problem = arguments.problem;
  const int lane = lane_number(), warp_row = int(threadIdx.x) / kWarp % kGroupWarps * 16;
  const int64_t tiles_of_head = (problem.positions + kQueries - 1) / kQueries;
  int tile = 0;  // of queries, over all passes
  for (int pass = 0;; ++pass) {
    QueryTiles tiles(problem, work, pass);
    if (!tiles.exist(problem)) break;
    shared.key_pipeline.wait_full(pass);
    for (; tiles.head < work.end_head; tiles.next(), ++tile) {
      shared.ds_pipeline.wait_full(tile);
#pragma unroll 1
      for (int panel = 0; panel < W / 64; ++panel) {  // of 64 columns
        float sums[8][4];
        multiply_ds(sums, shared.ds[shared.ds_pipeline.stage(tile)], shared.k + panel * kKeys * 128);
        if (panel == W / 64 - 1) shared.ds_pipeline.release(tile);
        if (panel == 0) {
          if (threadIdx.x % kGroupThreads == 0) wait_stores<0>();
          wait_barrier(1, kGroupThreads);  // the copy engine has read the previous tile
        }
#pragma unroll
        for (int n = 0; n < 8; ++n) {
#pragma unroll
          for (int half = 0; half < 2; ++half)
            *reinterpret_cast<float2*>(
                shared.dq + dq_offset<W>(warp_row + 8 * half + lane / 4, panel * 16 + 2 * n + lane % 4 / 2) + lane % 2 * 8) =
                make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
        }
      }
      publish_shared_writes();
      wait_barrier(1, kGroupThreads);
      if (threadIdx.x % kGroupThreads == 0) {
        const int64_t index =
            ((int64_t(work.key_split) * problem.batches + work.batch) * problem.heads + tiles.head) * tiles_of_head +
            tiles.start / kQueries;
        float* const to = arguments.dq_accum + index * (kQueries * W);
        const auto* const from = reinterpret_cast<const float*>(shared.dq);
        if (pass == 0)
          store_async(to, from, Memory::kDqBytes);
        else
          add_async(to, from, Memory::kDqBytes);
        commit_stores();
      }
    }
    shared.key_pipeline.release(pass);
    if (threadIdx.x % kGroupThreads == 0) wait_all_stores();  // before the next pass adds to the same elements
  }
}

// ---- dk and dv -----------------------------------------------------------------------------------------------------------
// The registers of a consumer thread for its 64 keys during one pass: its fragments (kernels/cuda/warpgroup.cuh) of matrices
// whose rows are keys. With W = 128 there are no registers for dv. This struct must have no other members: the compiler splits
// it into registers only after it has unrolled all loops over its arrays.
template <int W>
struct KeyFragments {
  static constexpr bool kMakesDv = W == 64;
  float s[1][kQueries / 8][4];  // S^T, then P^T, then dS^T
  float dp[kQueries / 8][4];    // dP^T, summed over the layers
  float dk[1][W / 8][4] = {}, dv[1][kMakesDv ? W / 8 : 1][4] = {};
  uint32_t p_operand[kQueries / 16][4], ds_operand[kQueries / 16][4];
};

// A consumer of 64 keys, with the operations on its fragments.
template <int W, int kLayers>
struct KeyGroup {
  using Memory = BackwardMemory<W, kLayers>;
  using Fragments = KeyFragments<W>;

  Memory& shared;
  const BackwardArguments& arguments;
  const BlockWork& work;
  const int group;          // 0 or 1
  const int warp_row, row;  // the warp's first key: in the tile, and in the sequence

  // first_key: of the block's tile.
  __device__ __forceinline__ KeyGroup(Memory& memory, const BackwardArguments& kernel_arguments, const BlockWork& block_work,
                                      int group_number, int first_key)
      : shared(memory),
        arguments(kernel_arguments),
        work(block_work),
        group(group_number),
        warp_row(int(threadIdx.x) / kWarp * 16),
        row(first_key + warp_row) {}

  // dO of the first layer is the last one of a tile of queries.
  static __device__ __forceinline__ int first_layer(int tile) { return tile * kLayers + kLayers - 1; }
  __device__ __forceinline__ const unsigned char* query_tile(int tile) const {
    return shared.q[shared.query_pipeline.stage(tile)];
  }
  __device__ __forceinline__ const unsigned char* gradient_tile(int gradient) const {
    return shared.d_o[shared.d_o_pipeline.stage(gradient)];
  }

  // Starts S and dP of a tile, and waits for S. Each layer's product is a group of its own, because the compiler ends a group
  // at each start_products() anyway.
  __device__ __forceinline__ void start_scores(Fragments& f, int tile) {
    const int group_offset = group * kGroupRows * 128;
    shared.query_pipeline.wait_full(tile);
    start_products(f.s[0], f.dp);
    multiply_tiles<W, kKeys, kQueries>(f.s[0], shared.k + group_offset, query_tile(tile), false);
    commit_products();
#pragma unroll
    for (int i = 0; i < kLayers; ++i) {
      shared.d_o_pipeline.wait_full(tile * kLayers + i);
      start_products();
      multiply_tiles<W, kKeys, kQueries>(f.dp, shared.v[kLayers - 1 - i] + group_offset, gradient_tile(tile * kLayers + i),
                                         i > 0);
      commit_products();
    }
    wait_products<kLayers>(f.s[0]);
  }

  // S -> P, while dP is still running.
  __device__ __forceinline__ void make_probabilities(Fragments& f, int tile, int first_query) {
    const AttentionProblem<bfloat16>& problem = arguments.problem;
    const float* const lse = shared.statistics[shared.query_pipeline.stage(tile)].lse;
    const float scale_log2 = problem.scale * kLog2E;
    keep_before_wait(arguments.key_splits < 0, [&] {
      if (misses_any<Side::keys, kQueries, 16>(problem, row, first_query))
        mask<Side::keys, kQueries>(f.s, problem, work.batch, row, first_query);
      to_probabilities_of_columns<kQueries, true>(f.s[0], lse, scale_log2);
    });
  }

  // P -> dS = P * (dP - delta). Also stores dS as the left operand for dk and, in shared memory, for dq.
  __device__ __forceinline__ void make_ds(Fragments& f, int tile) {
    const int lane = lane_number();
    const float* const delta = shared.statistics[shared.query_pipeline.stage(tile)].delta;
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
      const float2 pair = *reinterpret_cast<const float2*>(delta + 8 * n + lane % 4 * 2);
#pragma unroll
      for (int i = 0; i < 4; ++i) f.s[0][n][i] *= f.dp[n][i] - (i % 2 == 0 ? pair.x : pair.y);
    }
    pack_weights<kQueries>(f.ds_operand, f.s[0]);
    shared.ds_pipeline.wait_empty(tile);
    unsigned char* const ds = shared.ds[shared.ds_pipeline.stage(tile)];
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = warp_row + 8 * half + lane / 4;
        *reinterpret_cast<uint32_t*>(ds + key * 128 + ((n ^ (key & 7)) << 4) + lane % 4 * 4) =
            f.ds_operand[n / 2][n % 2 * 2 + half];
      }
    }
    publish_shared_writes();
    __syncwarp();
    if (lane == 0) arrive(shared.ds_pipeline.full(tile));
  }

  // Adds a tile whose scores have been started to dk and dv. kMore: also starts the scores of the next tile, which overlap with
  // dk and dv.
  template <bool kMore>
  __device__ __forceinline__ void add_tile(Fragments& f, int tile, int first_query) {
    make_probabilities(f, tile, first_query);
    wait_products<0>(f.dp);
#pragma unroll
    for (int i = 0; i < kLayers - 1; ++i) shared.d_o_pipeline.release(tile * kLayers + i);
    if constexpr (Fragments::kMakesDv) {
      pack_weights<kQueries>(f.p_operand, f.s[0]);
      start_products(f.dv[0], f.p_operand);
      multiply_weights<W, kQueries>(f.dv[0], f.p_operand, gradient_tile(first_layer(tile)));
      commit_products();
    }
    make_ds(f, tile);
    start_products(f.dk[0], f.ds_operand);
    multiply_weights<W, kQueries>(f.dk[0], f.ds_operand, query_tile(tile));
    commit_products();
    if constexpr (kMore) start_scores(f, tile + 1);
    wait_products<kMore ? kLayers : 0>(f.dk[0], f.dv[0], f.ds_operand, f.p_operand);
    shared.d_o_pipeline.release(first_layer(tile));
    shared.query_pipeline.release(tile);
  }

  // Writes dk and dv, or the block's part of them. The rows pass through the warp's rows of the first layer's V, so no warp of
  // the group may still read these.
  __device__ __forceinline__ void store(const Fragments& f) {
    const AttentionProblem<bfloat16>& problem = arguments.problem;
    const bool makes_dv = Fragments::kMakesDv && arguments.dv.data != nullptr;
    if (row >= problem.positions) return;
    if (arguments.partial_dk != nullptr) {
      store_partial<W>(arguments.partial_dk, problem, work.split, work.batch, row, work.key_head, f.dk);
      if constexpr (Fragments::kMakesDv)
        if (makes_dv) store_partial<W>(arguments.partial_dv, problem, work.split, work.batch, row, work.key_head, f.dv);
      return;
    }
    unsigned char* const own_rows = shared.v[0] + warp_row * 128;
    const float one[2] = {1, 1}, scales[2] = {problem.scale, problem.scale};
    store_rows<W, kKeys>(arguments.dk, problem, work.batch, row, work.key_head, f.dk[0], scales, own_rows);
    if constexpr (Fragments::kMakesDv)
      if (makes_dv) store_rows<W, kKeys>(arguments.dv, problem, work.batch, row, work.key_head, f.dv[0], one, own_rows);
  }
};

// Computes dk and dv of 64 keys per pass, and dS for compute_dq(). S and dP of the next tile overlap with dk and dv of this
// one.
template <int W, int kLayers>
__device__ __forceinline__ void compute_dk_dv(BackwardMemory<W, kLayers>& shared, const BackwardArguments& arguments,
                                              const BlockWork& work, int group) {
  claim_registers<kKeyRegisters>();
  int tile = 0;  // of queries, over all passes
  for (int pass = 0;; ++pass) {
    QueryTiles tiles(arguments.problem, work, pass);
    if (!tiles.exist(arguments.problem)) break;
    KeyGroup<W, kLayers> keys(shared, arguments, work, group, tiles.row);
    KeyFragments<W> fragments;
    shared.key_pipeline.wait_full(pass);
    keys.start_scores(fragments, tile);
    for (QueryTiles next = tiles; next.next(), next.head < work.end_head; tiles = next)
      keys.template add_tile<true>(fragments, tile++, tiles.start);
    keys.template add_tile<false>(fragments, tile++, tiles.start);

    wait_barrier(2 + group, kGroupThreads);  // from here on no warp of the group reads its rows of V
    keys.store(fragments);
    publish_shared_writes();
    shared.key_pipeline.release(pass);
  }
}

}  // namespace echo::kernels::cuda::attention::sm90
