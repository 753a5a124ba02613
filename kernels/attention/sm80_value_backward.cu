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

template <int W>
constexpr size_t kSharedBytes = tile_bytes<W>(kBlockRows + 2 * kQueries) + kQueries * sizeof(float);

template <int W>
__global__ void __launch_bounds__(kThreads, 2) value_rows(HeadView<bfloat16> dv, float* partial, HeadView<bfloat16> d_o,
                                                          AttentionProblem<bfloat16> problem, const float* lse) {
  unsigned char* const k_tile = shared_memory();
  unsigned char* const q_tile = k_tile + tile_bytes<W>(kBlockRows);
  unsigned char* const d_o_tile = q_tile + tile_bytes<W>(kQueries);
  float* const offsets = reinterpret_cast<float*>(d_o_tile + tile_bytes<W>(kQueries));
  const KeyBlock block(problem);
  const int batch = int(blockIdx.y), block_row = int(blockIdx.z) * kBlockRows;
  const int warp_row = int(threadIdx.x) / kWarp * kWarpRows, row = block_row + warp_row;
  const int positions = problem.positions;
  const float scale_log2 = problem.scale * kLog2E;
  const Range queries = column_range<Side::keys, kQueries, kBlockRows>(problem, batch, block_row);
  unsigned char* const own_k = k_tile + tile_bytes<W>(warp_row);

  const auto copy_queries = [&](int head, int start) {
    copy_tile<W, kQueries>(q_tile, problem.q, problem, batch, head, start);
  };
  const auto offset_of = [&](int head, int start) {  // of the column that this thread looks after
    const int query = start + int(threadIdx.x) % kQueries;
    return query < positions ? -lse[problem.statistic(batch, head, query)] / problem.scale : -kInfinity;
  };

  copy_tile<W, kBlockRows>(k_tile, problem.k, problem, batch, block.key_head, block_row);
  int head = queries.begin < queries.end ? block.first_head : block.end_head, start = queries.begin;
  if (head < block.end_head) {
    copy_queries(head, start);
    if (threadIdx.x < kQueries) offsets[threadIdx.x] = offset_of(head, start);
  }
  commit_copies();

  float result[2][W / 8][4] = {};
#pragma unroll 1
  while (head < block.end_head) {
    const bool last_tile = start + kQueries >= queries.end;
    const int next_head = last_tile ? head + 1 : head, next_start = last_tile ? queries.begin : start + kQueries;
    wait_copies<0>();
    __syncthreads();  // Q and its offsets are there, and no warp reads the last dO
    copy_tile<W, kQueries>(d_o_tile, d_o, problem, batch, head, start);
    commit_copies();
    const bool active = sees_any<Side::keys, kQueries, kWarpRows>(positions, row, start);
    float scores[2][kQueries / 8][4];
    if (active) {
      start_from_columns<kQueries>(scores, offsets);
      add_products<W, kQueries>(scores, own_k, q_tile);
    }
    wait_copies<0>();
    __syncthreads();  // dO is there, and no warp reads this Q
    float next_offset = 0;
    if (next_head < block.end_head) {
      copy_queries(next_head, next_start);
      next_offset = offset_of(next_head, next_start);
    }
    commit_copies();
    if (active) {
      if (misses_any<Side::keys, kQueries, kWarpRows>(problem, row, start))
        mask<Side::keys, kQueries>(scores, problem, batch, row, start);
      to_probabilities<kQueries>(scores, scale_log2);
      add_weighted<W, kQueries>(result, scores, d_o_tile);
    }
    if (threadIdx.x < kQueries) offsets[threadIdx.x] = next_offset;
    head = next_head, start = next_start;
  }
  wait_copies<0>();
  __syncthreads();  // the rows' tile is free, also where no column was seen
  if (row >= positions) return;

  const float one[4] = {1, 1, 1, 1};
  if (partial != nullptr)
    store_partial<W>(partial, problem, block.split, batch, row, block.key_head, result);
  else
    store_rows<W>(dv, problem, batch, row, block.key_head, result, one, own_k);
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
    launch(value_rows<W>, key_grid(problem, splits), kThreads, kSharedBytes<W>, stream(), head_view<bfloat16>(dv),
           partials.data(), head_view<bfloat16>(d_o), problem, lse.data<float>());
  };
  problem.width <= 64 ? run.operator()<64>() : run.operator()<128>();
  partials.add_up(dv, 1);
}

}  // namespace echo::kernels::cuda::attention::sm80
