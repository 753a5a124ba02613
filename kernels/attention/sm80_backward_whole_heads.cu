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
#include "kernels/attention/sm80_backward_whole_heads_roles.cuh"

namespace echo::kernels::cuda::attention::sm80 {
namespace {

template <int kParts>
__global__ void __launch_bounds__(kHeadThreads, 1)
    whole_heads(const HeadGradients gradients, const SharingLayers<bfloat16> layers, const AttentionProblem<bfloat16> problem,
                const float* lse, const float* delta, float inverse_scale, int block_heads, int step_layers) {
  constexpr int kQueries = SharedLayout<kParts>::kQueries;
  const HeadBlock<kParts> block(layers, problem, block_heads, step_layers);
  const float scale_log2 = problem.scale * kLog2E;
  const bool wants_values = gradients.dv.data != nullptr, keeps_statistics = threadIdx.x < kQueries;

  if (threadIdx.x == 0) block.bounds()[1] = -kQueries;
#pragma unroll 1
  for (int block_row = 0; block_row < problem.positions; block_row += kKeys) {
    const int row = block_row + block.warp_row;
    block.set_bounds(block_row);
    const MetTiles<kQueries> tiles{block.first_head, block.end_head, block_row, block_row / kKeys % 2 != 0, block.bounds()};
    Tile tile = tiles.first();
    int stage = 0, odd_tile = 0;
    block.load_keys(block_row);
    block.load_queries(tile, 0);
    block.load_step(tile, layers.count - 1, stage);
    commit_copies();
    if (keeps_statistics) block.keep_statistics(block.statistics_of(lse, delta, inverse_scale, tile));

    float result[2][W / 8][4] = {}, values[2][W / 8][4] = {};
#pragma unroll 1
    while (tiles.has(tile)) {
      // dP^T, and once dS is made of it this thread's part of dQ of the tile, so that both have the same registers.
      float products[2][N / 8][4];
#pragma unroll 1
      for (int part = 0; part < kParts; ++part) {
        const int column = tile.start + part * N, q_stage = kParts == 2 ? part : odd_tile;
        const bool active = sees_any<Side::keys, N, kWarpRows>(problem.positions, row, column);
        float scores[2][N / 8][4];
        // Not what the last tile left: that would occupy registers.
#pragma unroll
        for (int i = 0; i < N; ++i) products[i / (N / 2)][i / 4 % (N / 8)][i % 4] = 0;
#pragma unroll 1
        for (int last = layers.count - 1; last >= 0; last -= step_layers) {
          wait_copies<0>();
          __syncthreads();  // this step's tiles are there, and no warp reads the last step's, nor dS of the last tile
          block.load_next_step(tiles, tile, part, last, q_stage, stage);
          commit_copies();
          if (active) {
            if (last == layers.count - 1)
              block.start_part(scores, products, row, column, part, block.queries(q_stage), scale_log2);
            block.add_layers(products, values, scores, last, stage, wants_values);
          }
          stage ^= 1;
        }
        make_ds(scores, products, active);
        if (part == kParts - 1) block.load_sums(products[0], gradients.dq_sums, tile);
        store_scores<kParts>(block.scores(), block.warp_row, part, scores);
        if (active) add_weighted<W, N>(result, scores, block.queries(q_stage));
      }

      Statistics next_statistics = {};
      if (keeps_statistics && tiles.has(tiles.after(tile)))
        next_statistics = block.statistics_of(lse, delta, inverse_scale, tiles.after(tile));
      __syncthreads();  // dS is there, and no warp reads this tile's statistics
      block.add_to_queries(gradients, products[0], tile, block_row);
      if (keeps_statistics) block.keep_statistics(next_statistics);
      tile = tiles.after(tile), odd_tile ^= 1;
    }
    __syncthreads();  // the tiles are free
    if (row < problem.positions) block.store_keys(gradients, row, result, values);
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
           SharedLayout<kParts>::bytes(count, step_layers), stream(),
           HeadGradients{head_view<bfloat16>(dq), head_view<bfloat16>(dk), head_view<bfloat16>(dv), dk_partials.data(),
                         dv_partials.data(), data_or_null<float>(dq_sums)},
           layers_of<bfloat16>(layers), problem, lse.data<float>(), delta.data<float>(), 1 / problem.scale,
           problem.heads / problem.key_heads / splits, step_layers);
  };
  step_layers_of<2>(count) > 0 ? run.operator()<2>() : run.operator()<1>();
  dk_partials.add_up(dk, problem.scale);
  if (dv.defined()) dv_partials.add_up(dv, 1);
}

}  // namespace echo::kernels::cuda::attention::sm80
