// Attention's backward step on Hopper for a matrix that k layers share (kernels/attention/sm90.cuh): dq and dk, and dv of the
// first layer. dO_j and V_j are those of layer j.
//   dS = P * (sum_j dO_j V_j^T - delta),  dk = scale dS^T q,  dq = scale dS k,  dv_0 = P^T dO_0
// That is k + 4 products of tiles for a block of k layers. With W = 128 there are k + 3: there are no registers for dv_0, so
// value_backward() computes it.
// A thread block owns some heads of one batch entry with all their queries, and all their keys or every key_splits-th tile of
// 128 keys. Two of its warpgroups own 64 keys each. For each tile of 64 queries they compute P^T and dP^T, sum dk and dv_0 in
// registers, and store dS^T as bf16 in shared memory. The third computes the tile's part of dq from it. One warp of the fourth
// loads tiles. S and dP of the next tile overlap with the products of this tile's dS.
// dq is summed in f32 in global memory (dq_accum), where the copy engine adds each part. All parts of an element come from one
// block, and each is added only after the previous one has been written, so the sum always has the same bits. The first pass
// overwrites. convert_dq() adds up the splits of keys and rounds.
// Shared memory (KiB, W = 64 / 128): 16 / 32 for K and for each V, which stay for a pass; two stages of 8 / 16 for Q; stages of
// 8 / 16 for dO, at least one more than layers; 32 / 16 for dS; 16 / 32 for dq. That allows 5 / 2 layers.
// kernels/attention/sm80_backward.cu handles more. Bytes from and to global memory for 128 keys and 64 queries, which are k + 4
// MFLOP at W = 64: 24 + 8 k KiB, 16 of them for dq.
#include <algorithm>

#include "kernels/attention/sm90_backward_roles.cuh"

namespace echo::kernels::cuda::attention::sm90 {
namespace {

using sm80::Partials;

template <int W, int kLayers>
__global__ void __launch_bounds__(kThreads, 1)
    backward_tiles(const __grid_constant__ BackwardMaps<kLayers> maps, const BackwardArguments arguments) {
  auto& shared = *shared_memory<BackwardMemory<W, kLayers>>();
  const int group = uniform(int(threadIdx.x) / kGroupThreads);
  if (threadIdx.x == 0) shared.start_pipelines();
  __syncthreads();
  const BlockWork work(arguments.problem, arguments.key_splits);
  if (group == 3)
    load_tiles(shared, maps, arguments, work);
  else if (group == 2)
    compute_dq(shared, arguments, work);
  else
    compute_dk_dv(shared, arguments, work, group);
}

// dq = scale * dq_accum, summed over the splits whose keys a query sees. A thread owns 8 neighbouring columns of a row.
// dq_accum: as in BackwardArguments. vectors: B T H Dh / 8, the threads that have work.
template <int W>
__global__ void __launch_bounds__(256)
    convert_dq(const HeadView<bfloat16> dq, const float* const dq_accum, const AttentionProblem<bfloat16> problem,
               const int key_splits, const int64_t vectors) {
  const int64_t vector = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (vector >= vectors) return;
  const int per_row = problem.width / 8, chunk = int(vector % per_row), head = int(vector / per_row % problem.heads);
  const int64_t at = vector / per_row / problem.heads, batch = at / problem.positions;
  const int position = int(at % problem.positions), row = position % kQueries;
  const int64_t tiles = (problem.positions + kQueries - 1) / kQueries;
  float sums[8] = {};
  for (int split = 0; split < key_splits && split * kKeys <= position / kQueries * kQueries; ++split) {
    const int64_t tile = ((split * problem.batches + batch) * problem.heads + head) * tiles + position / kQueries;
    const auto* const from = reinterpret_cast<const unsigned char*>(dq_accum + tile * (kQueries * W));
    float low[4], high[4];
    load_vector(low, reinterpret_cast<const float*>(from + dq_offset<W>(row, 2 * chunk)));
    load_vector(high, reinterpret_cast<const float*>(from + dq_offset<W>(row, 2 * chunk + 1)));
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += low[i], sums[4 + i] += high[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[i] *= problem.scale;
  store_vector(dq.row(batch, position, head) + 8 * chunk, sums);
}

// How the work is divided over blocks: each takes 1 / splits of the heads of a group, and every key_splits-th tile of keys.
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
      // The time of the busiest multiprocessor. Each additional split of the keys writes and reads dq_accum once more.
      const double time = double(blocks_for(blocks, echo::cuda::properties().multiprocessors)) * (group / splits) / key_splits *
                          (1 + 0.04 * (key_splits - 1));
      if (least == 0 || time < least) least = time, best = {splits, key_splits};
    }
  }
  return best;
}

template <int W, int kLayers>
void run(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers, const AttentionProblem<bfloat16>& problem,
         const Tensor& lse, const Tensor& delta) {
  const Schedule schedule = schedule_of(problem);
  const Tensor own_dv = KeyFragments<W>::kMakesDv ? dv : Tensor();
  const Partials dk_partials(problem, schedule.splits, dk.device());
  const Partials dv_partials(problem, own_dv.defined() ? schedule.splits : 1, dk.device());
  const int64_t tiles = blocks_for(problem.positions, kQueries);
  const Tensor dq_accum =
      Tensor::empty({schedule.key_splits, problem.batches, problem.heads, tiles, kQueries * W}, DType::f32, dq.device());
  BackwardMaps<kLayers> maps;
  maps.q = tile_map(problem.q, problem, problem.heads, kQueries);
  maps.k = tile_map(problem.k, problem, problem.key_heads, kKeys);
  for (size_t i = 0; i < layers.size(); ++i) {
    maps.d_o[i] = tile_map(head_view<bfloat16>(layers[i].d_o), problem, problem.heads, kQueries);
    maps.v[i] = tile_map(head_view<bfloat16>(layers[i].v), problem, problem.key_heads, kKeys);
  }
  const BackwardArguments arguments = {
      .dk = head_view<bfloat16>(dk),
      .dv = head_view<bfloat16>(own_dv),
      .partial_dk = dk_partials.data(),
      .partial_dv = dv_partials.data(),
      .dq_accum = dq_accum.data<float>(),
      .problem = problem,
      .lse = lse.data<float>(),
      .delta = delta.data<float>(),
      .key_splits = schedule.key_splits,
  };
  const dim3 grid(unsigned(schedule.splits * schedule.key_splits), unsigned(problem.key_heads), unsigned(problem.batches));
  launch(backward_tiles<W, kLayers>, grid, kThreads, sizeof(BackwardMemory<W, kLayers>), stream(), maps, arguments);
  dk_partials.add_up(dk, problem.scale);
  if (own_dv.defined())
    dv_partials.add_up(dv, 1);
  else if (dv.defined())
    value_backward(dv, layers[0].d_o, problem, lse);
  const int64_t vectors = int64_t(problem.batches) * problem.positions * problem.heads * (problem.width / 8);
  launch(convert_dq<W>, blocks_for(vectors, 256), 256, 0, stream(), head_view<bfloat16>(dq), dq_accum.data<float>(), problem,
         schedule.key_splits, vectors);
}

// Calls run() for the number of layers.
template <int W, int kLayers = 1>
void run_layers(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
                const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  if (int(layers.size()) == kLayers) return run<W, kLayers>(dq, dk, dv, layers, problem, lse, delta);
  if constexpr (kLayers < kMostBackwardLayers<W>) run_layers<W, kLayers + 1>(dq, dk, dv, layers, problem, lse, delta);
}

}  // namespace

bool has_room(const AttentionProblem<bfloat16>& problem, int layers) {
  return layers <= (problem.width <= 64 ? kMostBackwardLayers<64> : kMostBackwardLayers<128>);
}

void backward(Tensor& dq, Tensor& dk, Tensor& dv, std::span<const SharingLayer> layers,
              const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& delta) {
  problem.width <= 64 ? run_layers<64>(dq, dk, dv, layers, problem, lse, delta)
                      : run_layers<128>(dq, dk, dv, layers, problem, lse, delta);
}

}  // namespace echo::kernels::cuda::attention::sm90
