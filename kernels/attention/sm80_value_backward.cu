// dv = P^T dO on tensor cores: a block owns 128 keys of one key head (kernels/attention/sm80.cuh) and walks over tiles of 64
// queries, head after head of its group, or of its part of it (kernels/attention/partials.cuh). Q of the next tile arrives
// while P^T dO is formed, dO of this one while K Q^T is. Scores start from -lse / scale of their columns, which the product
// then leaves as exponents.
// Shared memory: K 256 W, Q and dO 128 W bytes each, 256 bytes of lse: 32 KiB (W = 64), 64 KiB (W = 128). Bytes from global
// memory per block: K and dv once, Q and dO of the queries that see it once for each head.
#include "kernels/attention/sm80.cuh"

namespace echo::kernels::cuda::attention::sm80 {
namespace {

constexpr int kQueries = 64;

// A block's shared memory.
template <int W>
struct SharedTiles {
  unsigned char k[tile_bytes<W>(kBlockRows)], q[tile_bytes<W>(kQueries)], d_o[tile_bytes<W>(kQueries)];
  float offsets[kQueries];  // what the scores of a tile's queries start from
};

// A block's keys, a warp's part of them, and what the warp does.
template <int W>
struct KeyRows : KeyBlock {
  const AttentionProblem<bfloat16>& problem;
  SharedTiles<W>& shared;
  const int batch, block_row;
  const int warp_row, row;  // the warp's first key, in the block and of all
  const SeenTiles<kQueries> tiles;

  __device__ __forceinline__ KeyRows(const AttentionProblem<bfloat16>& kernel_problem, SharedTiles<W>& memory)
      : KeyBlock(kernel_problem),
        problem(kernel_problem),
        shared(memory),
        batch(int(blockIdx.y)),
        block_row(int(blockIdx.z) * kBlockRows),
        warp_row(int(threadIdx.x) / kWarp * kWarpRows),
        row(block_row + warp_row),
        tiles{first_head, end_head, column_range<Side::keys, kQueries, kBlockRows>(problem, batch, block_row)} {}

  __device__ __forceinline__ unsigned char* own_keys() const { return shared.k + tile_bytes<W>(warp_row); }
  __device__ __forceinline__ bool sees_any_of(const Tile& tile) const {
    return sees_any<Side::keys, kQueries, kWarpRows>(problem.positions, row, tile.start);
  }

  // ---- load tiles --------------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void load_keys() const {
    copy_tile<W, kBlockRows>(shared.k, problem.k, problem, batch, key_head, block_row);
  }
  __device__ __forceinline__ void load_queries(const Tile& tile) const {
    copy_tile<W, kQueries>(shared.q, problem.q, problem, batch, tile.head, tile.start);
  }
  __device__ __forceinline__ void load_gradients(const HeadView<bfloat16>& d_o, const Tile& tile) const {
    copy_tile<W, kQueries>(shared.d_o, d_o, problem, batch, tile.head, tile.start);
  }

  // ---- statistics --------------------------------------------------------------------------------------------------------
  // Of the query that this thread looks after.
  __device__ __forceinline__ float offset_of(const float* lse, const Tile& tile) const {
    const int query = tile.start + int(threadIdx.x) % kQueries;
    return query < problem.positions ? -lse[problem.statistic(batch, tile.head, query)] / problem.scale : -kInfinity;
  }
  __device__ __forceinline__ void keep_offset(float offset) const {
    if (threadIdx.x < kQueries) shared.offsets[threadIdx.x] = offset;
  }

  // ---- products of a tile ------------------------------------------------------------------------------------------------
  __device__ __forceinline__ void make_scores(float (&scores)[2][kQueries / 8][4]) const {
    start_from_columns<kQueries>(scores, shared.offsets);
    add_products<W, kQueries>(scores, own_keys(), shared.q);
  }
  // Scores -> P^T, and result += P^T dO.
  __device__ __forceinline__ void add_scores(float (&result)[2][W / 8][4], float (&scores)[2][kQueries / 8][4],
                                             const Tile& tile, float scale_log2) const {
    if (misses_any<Side::keys, kQueries, kWarpRows>(problem, row, tile.start))
      mask<Side::keys, kQueries>(scores, problem, batch, row, tile.start);
    to_probabilities<kQueries>(scores, scale_log2);
    add_weighted<W, kQueries>(result, scores, shared.d_o);
  }

  // ---- store -------------------------------------------------------------------------------------------------------------
  // dv, or the block's part of it, through the warp's rows of K's tile, which must be free.
  __device__ __forceinline__ void store(const HeadView<bfloat16>& dv, float* partial,
                                        const float (&result)[2][W / 8][4]) const {
    const float one[4] = {1, 1, 1, 1};
    if (partial != nullptr)
      store_partial<W>(partial, problem, split, batch, row, key_head, result);
    else
      store_rows<W>(dv, problem, batch, row, key_head, result, one, own_keys());
  }
};

// partial: null where a block takes all heads of a group.
template <int W>
__global__ void __launch_bounds__(kThreads, 2) value_rows(HeadView<bfloat16> dv, float* partial, HeadView<bfloat16> d_o,
                                                          AttentionProblem<bfloat16> problem, const float* lse) {
  const KeyRows<W> rows(problem, *shared_memory<SharedTiles<W>>());
  const float scale_log2 = problem.scale * kLog2E;
  Tile tile = rows.tiles.first();
  rows.load_keys();
  if (rows.tiles.has(tile)) {
    rows.load_queries(tile);
    rows.keep_offset(rows.offset_of(lse, tile));
  }
  commit_copies();

  float result[2][W / 8][4] = {};
#pragma unroll 1
  while (rows.tiles.has(tile)) {
    const Tile next = rows.tiles.after(tile);
    wait_copies<0>();
    __syncthreads();  // Q and its offsets are there, and no warp reads the last dO
    rows.load_gradients(d_o, tile);
    commit_copies();
    const bool active = rows.sees_any_of(tile);
    float scores[2][kQueries / 8][4];
    if (active) rows.make_scores(scores);
    wait_copies<0>();
    __syncthreads();  // dO is there, and no warp reads this Q
    float next_offset = 0;
    if (rows.tiles.has(next)) {
      rows.load_queries(next);
      next_offset = rows.offset_of(lse, next);
    }
    commit_copies();
    if (active) rows.add_scores(result, scores, tile, scale_log2);
    rows.keep_offset(next_offset);
    tile = next;
  }
  wait_copies<0>();
  __syncthreads();  // K's tile is free, also where no query was seen
  if (rows.row < problem.positions) rows.store(dv, partial, result);
}

// A thread owns 8 neighbours of a row.
__global__ void __launch_bounds__(256) sum_partials(HeadView<bfloat16> to, const float* partial, int splits, int64_t vectors,
                                                    int positions, int key_heads, int width, float factor) {
  const int64_t vector = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (vector >= vectors) return;
  float sums[8] = {};
  for (int split = 0; split < splits; ++split) {
    const float* const from = partial + (split * vectors + vector) * 8;
    float low[4], high[4];
    load_vector(low, from);
    load_vector(high, from + 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += low[i], sums[4 + i] += high[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[i] *= factor;
  const int64_t row = vector * 8 / width;
  store_vector(to.row(row / key_heads / positions, row / key_heads % positions, row % key_heads) + vector * 8 % width, sums);
}

}  // namespace

void Partials::add_up(Tensor& to, float factor) const {
  if (!sums_.defined()) return;
  const int64_t vectors = to.elements() / 8;
  launch(sum_partials, blocks_for(vectors, 256), 256, 0, stream(), head_view<bfloat16>(to), data(), int(sums_.dim(0)), vectors,
         int(to.dim(1)), int(to.dim(2)), int(to.dim(3)), factor);
}

void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<bfloat16>& problem, const Tensor& lse) {
  const int splits = group_splits(problem, kBlockRows, 2);
  const Partials partials(problem, splits, dv.device());
  const auto run = [&]<int W>() {
    launch(value_rows<W>, key_grid(problem, splits), kThreads, sizeof(SharedTiles<W>), stream(), head_view<bfloat16>(dv),
           partials.data(), head_view<bfloat16>(d_o), problem, lse.data<float>());
  };
  problem.width <= 64 ? run.operator()<64>() : run.operator()<128>();
  partials.add_up(dv, 1);
}

}  // namespace echo::kernels::cuda::attention::sm80
