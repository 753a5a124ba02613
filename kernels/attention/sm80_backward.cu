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

template <Side kSide, int W, int N, bool kValues>
__global__ void __launch_bounds__(kThreads, 2)
    score_rows(HeadView<bfloat16> gradient, HeadView<bfloat16> dv, float* partial, float* partial_dv,
               SharingLayers<bfloat16> layers, AttentionProblem<bfloat16> problem, const float* lse, const float* delta,
               int resident) {
  using Layout = SharedLayout<W, N>;
  constexpr bool kOfKeys = kSide == Side::keys;
  static_assert(kOfKeys || !kValues);
  unsigned char* const rows = shared_memory();
  const KeyBlock keys(problem);
  const int batch = int(blockIdx.y);
  const int block_row = int(kOfKeys ? blockIdx.z : gridDim.z - 1 - blockIdx.z) * kBlockRows;
  const int warp_row = int(threadIdx.x) / kWarp * kWarpRows, row = block_row + warp_row;
  const int positions = problem.positions;
  const int own = tile_bytes<W>(warp_row);
  const float scale_log2 = problem.scale * kLog2E;
  const Range columns = column_range<kSide, N, kBlockRows>(problem, batch, block_row);
  // Of the block of queries, whose grid is (H, B, T / 128).
  const int own_head = int(blockIdx.x), own_key_head = own_head / (problem.heads / problem.key_heads);
  const int first_head = kOfKeys ? keys.first_head : own_head, end_head = kOfKeys ? keys.end_head : own_head + 1;
  const int key_head = kOfKeys ? keys.key_head : own_key_head;

  const auto copy_rows = [&](int layer, unsigned char* to) {
    const HeadView<bfloat16>& from = kOfKeys ? layers.of[layer].v : layers.of[layer].d_o;
    copy_tile<W, kBlockRows>(to, from, problem, batch, kOfKeys ? key_head : own_head, block_row);
  };
  const auto copy_columns = [&](const HeadView<bfloat16>& from, int head, int start, unsigned char* to) {
    copy_tile<W, N>(to, from, problem, batch, kOfKeys ? head : key_head, start);
  };
  // What the step of `use` at a tile needs; its rows only where they do not stay.
  const auto copy_step = [&](int head, int start, int layer, int tile_stage, int stage) {
    if (layer == layers.count - 1)
      copy_columns(kOfKeys ? problem.q : problem.k, head, start, rows + Layout::kColumnsAt + tile_stage * Layout::kColumns);
    copy_columns(kOfKeys ? layers.of[layer].d_o : layers.of[layer].v, head, start,
                 rows + Layout::kLayersAt + stage * Layout::kColumns);
    if (layer >= resident) copy_rows(layer, rows + Layout::kResidentAt + (resident + stage) * Layout::kRows);
  };
  struct Statistics {
    float offset, negative_sum;
  };
  const auto statistics_of = [&](int head, int query) -> Statistics {
    if (query >= positions) return {-kInfinity, 0};
    const int64_t at = problem.statistic(batch, head, query);
    return {-lse[at] / problem.scale, -delta[at]};
  };
  // Of columns: two stages of N offsets and N sums.
  float* const of_columns = reinterpret_cast<float*>(rows + Layout::kStatisticsAt);
  const auto keep_statistics = [&](int tile_stage, const Statistics& statistics) {
    of_columns[2 * N * tile_stage + int(threadIdx.x)] = statistics.offset;
    of_columns[2 * N * tile_stage + N + int(threadIdx.x)] = statistics.negative_sum;
  };
  // Of rows.
  float offsets[4] = {}, negative_sums[4] = {};
  if constexpr (!kOfKeys) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Statistics statistics = statistics_of(own_head, row + 8 * i + lane_number() / 4);
      offsets[i] = statistics.offset, negative_sums[i] = statistics.negative_sum;
    }
  }

  int head = columns.begin < columns.end ? first_head : end_head, start = columns.begin;
  int stage = 0, tile_stage = 0;
  const HeadView<bfloat16>& row_heads = kOfKeys ? problem.k : problem.q;
  copy_tile<W, kBlockRows>(rows, row_heads, problem, batch, kOfKeys ? key_head : own_head, block_row);
  for (int layer = 0; layer < resident; ++layer) copy_rows(layer, rows + Layout::kResidentAt + layer * Layout::kRows);
  if (head < end_head) {
    copy_step(head, start, layers.count - 1, tile_stage, stage);
    if (kOfKeys && threadIdx.x < N) keep_statistics(tile_stage, statistics_of(head, start + int(threadIdx.x)));
  }
  commit_copies();

  float result[2][W / 8][4] = {}, values[2][kValues ? W / 8 : 1][4] = {};
#pragma unroll 1
  while (head < end_head) {
    const bool last_tile = start + N >= columns.end;
    const int next_head = last_tile ? head + 1 : head, next_start = last_tile ? columns.begin : start + N;
    const bool active = sees_any<kSide, N, kWarpRows>(positions, row, start);
    const unsigned char* const column_tile = rows + Layout::kColumnsAt + tile_stage * Layout::kColumns;
    Statistics next_statistics = {};
    float scores[2][N / 8][4], products[2][N / 8][4];
#pragma unroll 1
    for (int layer = layers.count - 1; layer >= 0; --layer) {
      wait_copies<0>();
      __syncthreads();  // this step's tiles are there, and no warp reads the last step's
      if (layer > 0) {
        copy_step(head, start, layer - 1, tile_stage, stage ^ 1);
      } else if (next_head < end_head) {
        copy_step(next_head, next_start, layers.count - 1, tile_stage ^ 1, stage ^ 1);
        if (kOfKeys && threadIdx.x < N) next_statistics = statistics_of(next_head, next_start + int(threadIdx.x));
      }
      commit_copies();
      if (active) {
        if (layer == layers.count - 1) {
          if constexpr (kOfKeys) {
            start_from_columns<N>(scores, of_columns + 2 * N * tile_stage);
            start_from_columns<N>(products, of_columns + 2 * N * tile_stage + N);
          } else {
            start_from_rows<N>(scores, offsets);
            start_from_rows<N>(products, negative_sums);
          }
          add_products<W, N>(scores, rows + own, column_tile);
          if (misses_any<kSide, N, kWarpRows>(problem, row, start)) mask<kSide, N>(scores, problem, batch, row, start);
          to_probabilities<N>(scores, scale_log2);
        }
        const unsigned char* const use_rows =
            rows + Layout::kResidentAt + (layer < resident ? layer : resident + stage) * Layout::kRows;
        const unsigned char* const use_columns = rows + Layout::kLayersAt + stage * Layout::kColumns;
        add_products<W, N>(products, use_rows + own, use_columns);
        if (layer == 0) {
          if constexpr (kValues) add_weighted<W, N>(values, scores, use_columns);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int n = 0; n < N / 8; ++n) {
#pragma unroll
              for (int i = 0; i < 4; ++i) scores[m][n][i] *= products[m][n][i];
            }
          }
          add_weighted<W, N>(result, scores, column_tile);
        }
      }
      stage ^= 1;
    }
    tile_stage ^= 1;
    if (kOfKeys && threadIdx.x < N) keep_statistics(tile_stage, next_statistics);
    head = next_head, start = next_start;
  }
  wait_copies<0>();
  __syncthreads();  // the rows' tile is free, also where no column was seen
  if (row >= positions) return;

  const float one[4] = {1, 1, 1, 1}, scales[4] = {problem.scale, problem.scale, problem.scale, problem.scale};
  if (kOfKeys && partial != nullptr) {
    store_partial<W>(partial, problem, keys.split, batch, row, key_head, result);
    if constexpr (kValues) store_partial<W>(partial_dv, problem, keys.split, batch, row, key_head, values);
    return;
  }
  store_rows<W>(gradient, problem, batch, row, kOfKeys ? key_head : own_head, result, scales, rows + own);
  if constexpr (kValues) store_rows<W>(dv, problem, batch, row, key_head, values, one, rows + own);
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
         head_view<bfloat16>(dk), head_view<bfloat16>(dv), dk_partials.data(), dv_partials.data(), of_layers, problem,
         lse.data<float>(), delta.data<float>(), resident_keys);
  dk_partials.add_up(dk, problem.scale);
  if (adds_values)
    dv_partials.add_up(dv, 1);
  else if (dv.defined())
    value_backward(dv, layers[0].d_o, problem, lse);
  launch(score_rows<Side::queries, W, kKeys, false>,
         dim3(unsigned(problem.heads), unsigned(problem.batches), blocks_for(problem.positions, kBlockRows)), kThreads,
         SharedLayout<W, kKeys>::bytes(count, resident_queries), stream(), head_view<bfloat16>(dq), HeadView<bfloat16>{},
         static_cast<float*>(nullptr), static_cast<float*>(nullptr), of_layers, problem, lse.data<float>(), delta.data<float>(),
         resident_queries);
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
