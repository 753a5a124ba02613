#pragma once

#include "kernels/attention/sm80.cuh"

// The roles of the warps of whole_heads() in kernels/attention/sm80_backward_whole_heads.cu, where the algorithm is described.
// Each warp takes all of them in turn: it loads its share of the tiles, makes dk and dv of its 32 keys (key side), and then its
// part of dQ of each tile of queries (query side).
namespace echo::kernels::cuda::attention::sm80 {

inline constexpr int W = 64, N = 32;  // columns of a head; queries whose scores a warp holds
inline constexpr int kHeadWarps = 8, kHeadThreads = kHeadWarps * kWarp, kKeys = kHeadWarps * kWarpRows;
inline constexpr int kKeyTile = tile_bytes<W>(kKeys), kQueryTile = tile_bytes<W>(N);
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

// What the kernel makes.
struct HeadGradients {
  HeadView<bfloat16> dq, dk, dv;   // dv: of the first layer; its data may be null, then no dv is made
  float *partial_dk, *partial_dv;  // (splits, B, T, Hkv, Dh), or null where a block takes all heads of a group
  float* dq_sums;                  // dQ so far: (B, H, tiles of queries), each tile in the order of its threads; null if
                                   // one tile of keys is all
};

// What the scores of a query and its dP start from.
struct Statistics {
  float offset, negative_sum;
};

// The tiles of queries that see a tile of keys, whose first key is block_row: head after head, all of them forwards or all
// backwards.
template <int kQueries>
struct MetTiles {
  const int first_head, end_head, block_row;
  const bool backwards;
  const int* const bounds;  // bounds[1]: where the last tile of a head starts

  __device__ __forceinline__ Tile first() const {
    return backwards ? Tile{end_head - 1, bounds[1]} : Tile{first_head, block_row};
  }
  __device__ __forceinline__ Tile after(const Tile& tile) const {
    if (backwards) return tile.start > block_row ? Tile{tile.head, tile.start - kQueries} : Tile{tile.head - 1, bounds[1]};
    return tile.start < bounds[1] ? Tile{tile.head, tile.start + kQueries} : Tile{tile.head + 1, block_row};
  }
  __device__ __forceinline__ bool has(const Tile& tile) const { return tile.head >= first_head && tile.head < end_head; }
};

// The heads of a block, a warp's part of each tile of keys, and what the warp does.
template <int kParts>
struct HeadBlock {
  using Layout = SharedLayout<kParts>;
  static constexpr int kQueries = Layout::kQueries;

  const SharingLayers<bfloat16>& layers;
  const AttentionProblem<bfloat16>& problem;
  const int step_layers;  // layers whose dO arrive together
  unsigned char* const memory;
  const int split, key_head, batch, first_head, end_head;
  const int warp_row, own;  // the warp's first key in a tile of keys, and where its rows start there, in bytes

  __device__ __forceinline__ HeadBlock(const SharingLayers<bfloat16>& kernel_layers,
                                       const AttentionProblem<bfloat16>& kernel_problem, int block_heads, int layers_of_step)
      : layers(kernel_layers),
        problem(kernel_problem),
        step_layers(layers_of_step),
        memory(shared_memory()),
        split(int(blockIdx.x)),
        key_head(int(blockIdx.y)),
        batch(int(blockIdx.z)),
        first_head((key_head * int(gridDim.x) + split) * block_heads),
        end_head(first_head + block_heads),
        warp_row(int(threadIdx.x) / kWarp * kWarpRows),
        own(tile_bytes<W>(warp_row)) {}

  // ---- shared memory -----------------------------------------------------------------------------------------------------
  __device__ __forceinline__ unsigned char* keys() const { return memory + Layout::kKeysAt; }
  __device__ __forceinline__ unsigned char* values(int layer) const { return memory + Layout::kValuesAt + layer * kKeyTile; }
  __device__ __forceinline__ unsigned char* queries(int stage) const {
    return memory + Layout::kQueriesAt + stage * kQueryTile;
  }
  // dO of the layers of a step.
  __device__ __forceinline__ unsigned char* gradients(int stage) const {
    return values(layers.count) + stage * step_layers * kQueryTile;
  }
  __device__ __forceinline__ unsigned char* scores() const { return memory + Layout::kScoresAt; }
  // Offsets of a tile of queries, then negative sums.
  __device__ __forceinline__ float* statistics() const { return reinterpret_cast<float*>(memory + Layout::kStatisticsAt); }
  // Queries before bounds[0] have sums of dQ; bounds[1] is where the last tile of queries starts. Then a place for each warp.
  __device__ __forceinline__ int* bounds() const { return reinterpret_cast<int*>(memory + Layout::kBoundsAt); }

  // ---- load tiles --------------------------------------------------------------------------------------------------------
  // K and all V of the keys from block_row on.
  __device__ __forceinline__ void load_keys(int block_row) const {
    copy_tile<W, kKeys, kHeadThreads>(keys(), problem.k, problem, batch, key_head, block_row);
#pragma unroll 1
    for (int layer = 0; layer < layers.count; ++layer)
      copy_tile<W, kKeys, kHeadThreads>(values(layer), layers.of[layer].v, problem, batch, key_head, block_row);
  }
  __device__ __forceinline__ void load_queries(const Tile& tile, int stage) const {
    copy_tile<W, N, kHeadThreads>(queries(stage), problem.q, problem, batch, tile.head, tile.start);
  }
  // dO of layers `last`, `last` - 1, ... as one step takes them.
  __device__ __forceinline__ void load_step(const Tile& tile, int last, int stage) const {
#pragma unroll 1
    for (int i = 0; i < step_layers && i <= last; ++i)
      copy_tile<W, N, kHeadThreads>(gradients(stage) + i * kQueryTile, layers.of[last - i].d_o, problem, batch, tile.head,
                                    tile.start);
  }
  // What the next step needs. The current one takes layers `last`, `last` - 1, ... and has stages q_stage and stage.
  __device__ __forceinline__ void load_next_step(const MetTiles<kQueries>& tiles, const Tile& tile, int part, int last,
                                                 int q_stage, int stage) const {
    const int column = tile.start + part * N;
    if (last >= step_layers) {
      load_step({tile.head, column}, last - step_layers, stage ^ 1);
    } else if (const Tile next = part + 1 < kParts ? Tile{tile.head, column + N} : tiles.after(tile); tiles.has(next)) {
      load_queries(next, q_stage ^ 1);
      load_step(next, layers.count - 1, stage ^ 1);
    }
  }

  // ---- statistics --------------------------------------------------------------------------------------------------------
  // Sets the bounds for the next tile of keys: its queries are those that see a key of it, or are at its positions.
  __device__ __forceinline__ void set_bounds(int block_row) const {
    int end = problem.positions;
    if (problem.first_key != nullptr) {
      const int keys_end = opaque(block_row + kKeys);
      end = min(keys_end, problem.positions);
      for (int query = keys_end + int(threadIdx.x); query < problem.positions; query += kHeadThreads)
        if (problem.first_key_of(batch, query) < keys_end) end = query + 1;
      end = warp_max(end);
    }
    if (lane_number() == 0) bounds()[2 + opaque(int(threadIdx.x)) / kWarp] = end;
    __syncthreads();  // all warps' ends are there, and no warp stores results through the last tile
    if (threadIdx.x == 0) {
      for (int warp = 0; warp < kHeadWarps; ++warp) end = max(end, bounds()[2 + warp]);
      bounds()[0] = bounds()[1] + kQueries;
      bounds()[1] = block_row + (end - block_row - 1) / kQueries * kQueries;
    }
    __syncthreads();
  }
  // Each of the first kQueries threads looks after one query of a tile.
  __device__ __forceinline__ Statistics statistics_of(const float* lse, const float* delta, float inverse_scale,
                                                      const Tile& tile) const {
    const int query = tile.start + int(threadIdx.x);
    if (query >= problem.positions) return {-kInfinity, 0};
    const int64_t at = problem.statistic(batch, tile.head, query);
    return {-lse[at] * inverse_scale, -delta[at]};
  }
  __device__ __forceinline__ void keep_statistics(const Statistics& of_query) const {
    statistics()[threadIdx.x] = of_query.offset;
    statistics()[kQueries + threadIdx.x] = of_query.negative_sum;
  }

  // ---- key side ----------------------------------------------------------------------------------------------------------
  // P^T of the warp's keys, from `row` on, and N queries, from `column` on, and what their dP^T starts from.
  __device__ __forceinline__ void start_part(float (&p)[2][N / 8][4], float (&products)[2][N / 8][4], int row, int column,
                                             int part, const unsigned char* q_tile, float scale_log2) const {
    start_from_columns<N>(p, statistics() + part * N);
    start_from_columns<N>(products, statistics() + kQueries + part * N);
    add_products<W, N>(p, keys() + own, q_tile);
    if (misses_any<Side::keys, N, kWarpRows>(problem, row, column)) mask<Side::keys, N>(p, problem, batch, row, column);
    to_probabilities<N>(p, scale_log2);
  }
  // dP^T of the layers of a step; dv_0 += P^T dO_0.
  __device__ __forceinline__ void add_layers(float (&products)[2][N / 8][4], float (&dv)[2][W / 8][4],
                                             const float (&p)[2][N / 8][4], int last, int stage, bool wants_values) const {
    const unsigned char* d_o_tile = gradients(stage);
#pragma unroll 1
    for (int layer = last; layer >= 0 && layer > last - step_layers; --layer, d_o_tile += kQueryTile) {
      add_products<W, N>(products, values(layer) + own, d_o_tile);
      if (layer == 0 && wants_values) add_weighted<W, N>(dv, p, d_o_tile);
    }
  }

  // ---- query side --------------------------------------------------------------------------------------------------------
  // Where this thread's part of a tile's dQ lies.
  __device__ __forceinline__ float* sums_of(float* dq_sums, const Tile& tile) const {
    const int64_t tiles = (problem.positions + kQueries - 1) / kQueries;
    const int64_t index = (int64_t(batch) * problem.heads + tile.head) * tiles + tile.start / kQueries;
    return dq_sums + (index * 2 * kParts * kHeadThreads + opaque(int(threadIdx.x))) * 4;
  }
  // This thread's part of a tile's dQ, as the tiles of keys before have left it.
  __device__ __forceinline__ void load_sums(float (&sums)[N / 8][4], float* dq_sums, const Tile& tile) const {
#pragma unroll
    for (int i = 0; i < 8 * kParts; ++i) sums[i / 4][i % 4] = 0;
    if (tile.start >= bounds()[0]) return;
    const float* const so_far = sums_of(dq_sums, tile);
#pragma unroll
    for (int n = 0; n < 2 * kParts; ++n) load_vector(sums[n], so_far + n * kHeadThreads * 4);
  }
  __device__ __forceinline__ void store_sums(const float (&sums)[N / 8][4], float* dq_sums, const Tile& tile) const {
    float* const to = sums_of(dq_sums, tile);
#pragma unroll
    for (int n = 0; n < 2 * kParts; ++n) store_vector(to + n * kHeadThreads * 4, sums[n]);
  }
  __device__ __forceinline__ void store_queries(const HeadView<bfloat16>& dq, const float (&sums)[N / 8][4],
                                                const Tile& tile) const {
    const QueryPart<kParts> part;
    const int query = tile.start + part.query + lane_number() / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (query + 8 * i >= problem.positions) continue;
      bfloat16* const to = dq.row(batch, query + 8 * i, tile.head) + lane_number() % 4 * 2;
#pragma unroll
      for (int n = 0; n < 2 * kParts; ++n) {
        if (part.column + 8 * n < problem.width)
          *reinterpret_cast<uint32_t*>(to + part.column + 8 * n) =
              pack_bf16(sums[n][2 * i] * problem.scale, sums[n][2 * i + 1] * problem.scale);
      }
    }
  }
  // dQ of a tile += dS K. The keys at the queries' own positions are the last ones: what they leave is dq.
  __device__ __forceinline__ void add_to_queries(const HeadGradients& to, float (&sums)[N / 8][4], const Tile& tile,
                                                 int block_row) const {
    add_query_products<kParts>(sums, scores(), keys(), min(tile.start + kQueries - block_row, kKeys));
    if (tile.start < block_row + kKeys)
      store_queries(to.dq, sums, tile);
    else
      store_sums(sums, to.dq_sums, tile);
  }

  // ---- store -------------------------------------------------------------------------------------------------------------
  // dk and dv of the warp's keys, or the block's parts of them, through their rows of K's tile, which must be free.
  __device__ __forceinline__ void store_keys(const HeadGradients& to, int row, const float (&dk)[2][W / 8][4],
                                             const float (&dv)[2][W / 8][4]) const {
    const bool wants_values = to.dv.data != nullptr;
    const float one[4] = {1, 1, 1, 1}, scales[4] = {problem.scale, problem.scale, problem.scale, problem.scale};
    unsigned char* const own_rows = keys() + own;
    if (to.partial_dk != nullptr) {
      store_partial<W>(to.partial_dk, problem, split, batch, row, key_head, dk);
      if (wants_values) store_partial<W>(to.partial_dv, problem, split, batch, row, key_head, dv);
    } else {
      store_rows<W>(to.dk, problem, batch, row, key_head, dk, scales, own_rows);
      if (wants_values) store_rows<W>(to.dv, problem, batch, row, key_head, dv, one, own_rows);
    }
  }
};

// P^T -> dS^T; zeros from warps whose keys no query sees.
__device__ __forceinline__ void make_ds(float (&scores)[2][N / 8][4], const float (&products)[2][N / 8][4], bool active) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][n][i] = active ? scores[m][n][i] * products[m][n][i] : 0.0f;
    }
  }
}

}  // namespace echo::kernels::cuda::attention::sm80
