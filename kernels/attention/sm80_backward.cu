// The leader's backward step on tensor cores:
//   dS = P * (sum_j dO_j V_j^T - delta),  dk = scale dS^T q,  dq = scale dS k,  dv_0 = P^T dO_0
// Two kernels of one shape, both of which rebuild dS: a block of one owns 128 keys and collects dk (and dv_0), of the other 128
// queries and collects dq. Float atomics would give other bits every time; dq collected by the blocks of keys in turn would
// need blocks that wait for each other; dS or partial dq in memory would cost about the time of the products that are saved. So
// a block of k layers takes 2 k + 5 products here, and no memory that grows with T^2. (With W = 128 there are no registers for
// dv_0, which the follower's kernel then makes: 2 k + 6.) Where there are heads enough to give each multiprocessor whole ones,
// kernels/attention/sm80_backward_whole_heads.cu takes k + 4.
// A block walks over tiles of N columns. For each it forms P, then adds one use after the other to dP in registers (which start
// from -delta), the first use last, as its dO is what dv_0 needs. The block's own rows of all uses (dO_j, or V_j) stay in
// shared memory as far as it goes; the rest comes again with each tile. One barrier per use and tile: while one is computed
// with, the next arrives.
// Shared memory: R = 256 W bytes of rows and R for each use that stays, 8 W N of columns (two stages each of K or Q and V or
// dO), 16 N of row statistics for keys; 2 R more where layers come again. Bytes from global memory per block: its rows once,
// for each tile N rows of K or Q and of each use.
#include "kernels/attention/sm80.cuh"

namespace echo::kernels::cuda::attention::sm80 {
namespace {

template <int W, int N>
struct SharedLayout {
  static constexpr int kRows = tile_bytes<W>(kBlockRows), kColumns = tile_bytes<W>(N);
  static constexpr int kStatistics = 4 * N * int(sizeof(float));  // two stages of lse and delta
  static constexpr int kColumnsAt = kRows, kLayersAt = kColumnsAt + 2 * kColumns, kStatisticsAt = kLayersAt + 2 * kColumns;
  static constexpr int kResidentAt = kStatisticsAt + kStatistics;

  static size_t bytes(int layers, int resident) {
    return size_t(kResidentAt) + size_t(kRows) * size_t(resident < layers ? resident + 2 : layers);
  }
  static int resident(int layers) {
    const int64_t available = echo::cuda::properties().shared_bytes_per_block;
    if (int64_t(bytes(layers, layers)) <= available) return layers;
    return int((available - kResidentAt) / kRows) - 2;
  }
};

// What a kernel makes: dk and dv, or their parts where the heads of a group are split; or dq, and nothing else.
struct ScoreGradients {
  HeadView<bfloat16> result, values;
  float *partial, *partial_values;  // (splits, B, T, Hkv, Dh), or null
};

// What the scores of a query and its dP start from.
struct Statistics {
  float offset, negative_sum;
};
// Of the lane's four rows, where rows are queries.
struct RowStatistics {
  float offsets[4] = {}, negative_sums[4] = {};
};

// A block's 128 rows, keys or queries, a warp's part of them, and what the warp does. The grid of blocks of queries is
// (H, B, T / 128).
template <Side kSide, int W, int N>
struct RowBlock {
  using Layout = SharedLayout<W, N>;
  static constexpr bool kOfKeys = kSide == Side::keys;

  const SharingLayers<bfloat16>& layers;
  const AttentionProblem<bfloat16>& problem;
  const float *lse, *delta;
  const int resident;  // layers whose rows stay in shared memory
  unsigned char* const memory;
  const KeyBlock keys;  // of blocks of keys
  const int batch, block_row;
  const int warp_row, row;  // the warp's first row, in the block and of all
  const int row_head, key_head;
  const SeenTiles<N> tiles;

  __device__ __forceinline__ RowBlock(const SharingLayers<bfloat16>& kernel_layers,
                                      const AttentionProblem<bfloat16>& kernel_problem, const float* kernel_lse,
                                      const float* kernel_delta, int resident_layers)
      : layers(kernel_layers),
        problem(kernel_problem),
        lse(kernel_lse),
        delta(kernel_delta),
        resident(resident_layers),
        memory(shared_memory()),
        keys(problem),
        batch(int(blockIdx.y)),
        block_row(int(kOfKeys ? blockIdx.z : gridDim.z - 1 - blockIdx.z) * kBlockRows),
        warp_row(int(threadIdx.x) / kWarp * kWarpRows),
        row(block_row + warp_row),
        row_head(kOfKeys ? keys.key_head : int(blockIdx.x)),
        key_head(kOfKeys ? keys.key_head : row_head / (problem.heads / problem.key_heads)),
        tiles{kOfKeys ? keys.first_head : row_head, kOfKeys ? keys.end_head : row_head + 1,
              column_range<kSide, N, kBlockRows>(problem, batch, block_row)} {}

  __device__ __forceinline__ bool sees_any_of(const Tile& tile) const {
    return sees_any<kSide, N, kWarpRows>(problem.positions, row, tile.start);
  }

  // ---- shared memory -----------------------------------------------------------------------------------------------------
  __device__ __forceinline__ unsigned char* own_rows() const { return memory + tile_bytes<W>(warp_row); }
  __device__ __forceinline__ unsigned char* column_tile(int tile_stage) const {
    return memory + Layout::kColumnsAt + tile_stage * Layout::kColumns;
  }
  __device__ __forceinline__ unsigned char* layer_columns(int stage) const {
    return memory + Layout::kLayersAt + stage * Layout::kColumns;
  }
  __device__ __forceinline__ unsigned char* layer_rows(int place) const {
    return memory + Layout::kResidentAt + place * Layout::kRows;
  }
  // N offsets, then N negative sums.
  __device__ __forceinline__ float* column_statistics(int tile_stage) const {
    return reinterpret_cast<float*>(memory + Layout::kStatisticsAt) + 2 * N * tile_stage;
  }

  // ---- load tiles --------------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void load_layer_rows(int layer, int place) const {
    const HeadView<bfloat16>& from = kOfKeys ? layers.of[layer].v : layers.of[layer].d_o;
    copy_tile<W, kBlockRows>(layer_rows(place), from, problem, batch, row_head, block_row);
  }
  __device__ __forceinline__ void load_columns(unsigned char* to, const HeadView<bfloat16>& from, const Tile& tile) const {
    copy_tile<W, N>(to, from, problem, batch, kOfKeys ? tile.head : key_head, tile.start);
  }
  // The rows of q or k, and those of the layers that stay.
  __device__ __forceinline__ void load_rows() const {
    copy_tile<W, kBlockRows>(memory, kOfKeys ? problem.k : problem.q, problem, batch, row_head, block_row);
    for (int layer = 0; layer < resident; ++layer) load_layer_rows(layer, layer);
  }
  // What a layer's step at a tile needs; its rows only where they do not stay.
  __device__ __forceinline__ void load_step(const Tile& tile, int layer, int tile_stage, int stage) const {
    if (layer == layers.count - 1) load_columns(column_tile(tile_stage), kOfKeys ? problem.q : problem.k, tile);
    load_columns(layer_columns(stage), kOfKeys ? layers.of[layer].d_o : layers.of[layer].v, tile);
    if (layer >= resident) load_layer_rows(layer, resident + stage);
  }

  // ---- statistics --------------------------------------------------------------------------------------------------------
  __device__ __forceinline__ Statistics statistics_of(int head, int query) const {
    if (query >= problem.positions) return {-kInfinity, 0};
    const int64_t at = problem.statistic(batch, head, query);
    return {-lse[at] / problem.scale, -delta[at]};
  }
  // Key side: each of the first N threads looks after one query of a tile.
  __device__ __forceinline__ void keep_statistics(int tile_stage, const Statistics& statistics) const {
    column_statistics(tile_stage)[threadIdx.x] = statistics.offset;
    column_statistics(tile_stage)[N + int(threadIdx.x)] = statistics.negative_sum;
  }
  // Query side.
  __device__ __forceinline__ void load_row_statistics(RowStatistics& rows) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Statistics statistics = statistics_of(row_head, row + 8 * i + lane_number() / 4);
      rows.offsets[i] = statistics.offset, rows.negative_sums[i] = statistics.negative_sum;
    }
  }

  // ---- products of a step ------------------------------------------------------------------------------------------------
  // P of a tile, and what its dP starts from.
  __device__ __forceinline__ void start_tile(float (&scores)[2][N / 8][4], float (&products)[2][N / 8][4],
                                             const RowStatistics& rows, const Tile& tile, int tile_stage,
                                             float scale_log2) const {
    if constexpr (kOfKeys) {
      start_from_columns<N>(scores, column_statistics(tile_stage));
      start_from_columns<N>(products, column_statistics(tile_stage) + N);
    } else {
      start_from_rows<N>(scores, rows.offsets);
      start_from_rows<N>(products, rows.negative_sums);
    }
    add_products<W, N>(scores, own_rows(), column_tile(tile_stage));
    if (misses_any<kSide, N, kWarpRows>(problem, row, tile.start)) mask<kSide, N>(scores, problem, batch, row, tile.start);
    to_probabilities<N>(scores, scale_log2);
  }
  // A layer's dP.
  __device__ __forceinline__ void add_layer(float (&products)[2][N / 8][4], int layer, int stage) const {
    const unsigned char* const rows = layer_rows(layer < resident ? layer : resident + stage);
    add_products<W, N>(products, rows + tile_bytes<W>(warp_row), layer_columns(stage));
  }
  // P -> dS of all layers, and result += dS . columns.
  __device__ __forceinline__ void finish_tile(float (&result)[2][W / 8][4], float (&scores)[2][N / 8][4],
                                              const float (&products)[2][N / 8][4], int tile_stage) const {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[m][n][i] *= products[m][n][i];
      }
    }
    add_weighted<W, N>(result, scores, column_tile(tile_stage));
  }

  // ---- store -------------------------------------------------------------------------------------------------------------
  // scale * result and values, or the block's parts of them, through the warp's own rows, which must be free.
  template <bool kValues>
  __device__ __forceinline__ void store(const ScoreGradients& to, const float (&result)[2][W / 8][4],
                                        const float (&values)[2][kValues ? W / 8 : 1][4]) const {
    if (kOfKeys && to.partial != nullptr) {
      store_partial<W>(to.partial, problem, keys.split, batch, row, row_head, result);
      if constexpr (kValues) store_partial<W>(to.partial_values, problem, keys.split, batch, row, row_head, values);
      return;
    }
    const float one[4] = {1, 1, 1, 1}, scales[4] = {problem.scale, problem.scale, problem.scale, problem.scale};
    store_rows<W>(to.result, problem, batch, row, row_head, result, scales, own_rows());
    if constexpr (kValues) store_rows<W>(to.values, problem, batch, row, row_head, values, one, own_rows());
  }
};

// Key side: dk, and with kValues dv. Query side: dq.
template <Side kSide, int W, int N, bool kValues>
__global__ void __launch_bounds__(kThreads, 2)
    score_rows(const ScoreGradients gradients, const SharingLayers<bfloat16> layers, const AttentionProblem<bfloat16> problem,
               const float* lse, const float* delta, int resident) {
  static_assert(kSide == Side::keys || !kValues);
  const RowBlock<kSide, W, N> block(layers, problem, lse, delta, resident);
  const float scale_log2 = problem.scale * kLog2E;
  const bool keeps_statistics = kSide == Side::keys && threadIdx.x < N;
  RowStatistics row_statistics;
  if constexpr (kSide == Side::queries) block.load_row_statistics(row_statistics);
  Tile tile = block.tiles.first();
  int stage = 0, tile_stage = 0;
  block.load_rows();
  if (block.tiles.has(tile)) {
    block.load_step(tile, layers.count - 1, tile_stage, stage);
    if (keeps_statistics) block.keep_statistics(tile_stage, block.statistics_of(tile.head, tile.start + int(threadIdx.x)));
  }
  commit_copies();

  float result[2][W / 8][4] = {}, values[2][kValues ? W / 8 : 1][4] = {};
#pragma unroll 1
  while (block.tiles.has(tile)) {
    const Tile next = block.tiles.after(tile);
    const bool active = block.sees_any_of(tile);
    Statistics next_statistics = {};
    float scores[2][N / 8][4], products[2][N / 8][4];
#pragma unroll 1
    for (int layer = layers.count - 1; layer >= 0; --layer) {
      wait_copies<0>();
      __syncthreads();  // this step's tiles are there, and no warp reads the last step's
      if (layer > 0) {
        block.load_step(tile, layer - 1, tile_stage, stage ^ 1);
      } else if (block.tiles.has(next)) {
        block.load_step(next, layers.count - 1, tile_stage ^ 1, stage ^ 1);
        if (keeps_statistics) next_statistics = block.statistics_of(next.head, next.start + int(threadIdx.x));
      }
      commit_copies();
      if (active) {
        if (layer == layers.count - 1) block.start_tile(scores, products, row_statistics, tile, tile_stage, scale_log2);
        block.add_layer(products, layer, stage);
        if (layer == 0) {
          if constexpr (kValues) add_weighted<W, N>(values, scores, block.layer_columns(stage));
          block.finish_tile(result, scores, products, tile_stage);
        }
      }
      stage ^= 1;
    }
    tile_stage ^= 1;
    if (keeps_statistics) block.keep_statistics(tile_stage, next_statistics);
    tile = next;
  }
  wait_copies<0>();
  __syncthreads();  // the rows' tile is free, also where no column was seen
  if (block.row < problem.positions) block.template store<kValues>(gradients, result, values);
}

constexpr int kQueryTile = 32;
template <int W>
constexpr int kKeyTile = W == 64 ? 64 : 32;

template <int W>
void backward_of_width(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
                       const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  constexpr int kQueries = kQueryTile, kKeys = kKeyTile<W>;
  constexpr bool kCanAddValues = W == 64;
  const int count = int(layers.size()), splits = group_splits(problem, kBlockRows, 2);
  const bool adds_values = kCanAddValues && dv.defined();
  const Partials dk_partials(problem, splits, dk.device()), dv_partials(problem, adds_values ? splits : 1, dk.device());
  const SharingLayers<bfloat16> of_layers = layers_of<bfloat16>(layers);
  const int resident_keys = SharedLayout<W, kQueries>::resident(count),
            resident_queries = SharedLayout<W, kKeys>::resident(count);
  launch(adds_values ? score_rows<Side::keys, W, kQueries, kCanAddValues> : score_rows<Side::keys, W, kQueries, false>,
         key_grid(problem, splits), kThreads, SharedLayout<W, kQueries>::bytes(count, resident_keys), stream(),
         ScoreGradients{head_view<bfloat16>(dk), head_view<bfloat16>(dv), dk_partials.data(), dv_partials.data()}, of_layers,
         problem, lse.data<float>(), delta.data<float>(), resident_keys);
  dk_partials.add_up(dk, problem.scale);
  if (adds_values)
    dv_partials.add_up(dv, 1);
  else if (dv.defined())
    value_backward(dv, layers[0].d_o, problem, lse);
  launch(score_rows<Side::queries, W, kKeys, false>,
         dim3(unsigned(problem.heads), unsigned(problem.batches), blocks_for(problem.positions, kBlockRows)), kThreads,
         SharedLayout<W, kKeys>::bytes(count, resident_queries), stream(),
         ScoreGradients{head_view<bfloat16>(dq), {}, nullptr, nullptr}, of_layers, problem, lse.data<float>(),
         delta.data<float>(), resident_queries);
}

}  // namespace

bool has_room(const AttentionProblem<bfloat16>& problem, int layers) {
  if (problem.width <= 64)
    return SharedLayout<64, kQueryTile>::resident(layers) >= 0 && SharedLayout<64, kKeyTile<64>>::resident(layers) >= 0;
  return SharedLayout<128, kQueryTile>::resident(layers) >= 0 && SharedLayout<128, kKeyTile<128>>::resident(layers) >= 0;
}

void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
              const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  if (problem.width <= 64) return backward_of_width<64>(dq, dk, dv, layers, problem, lse, delta);
  backward_of_width<128>(dq, dk, dv, layers, problem, lse, delta);
}

}  // namespace echo::kernels::cuda::attention::sm80
