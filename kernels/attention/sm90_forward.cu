// Attention on Hopper: forward, shared forward (of a follower, which reads the leader's lse) and value backward
// (kernels/attention/sm90.cuh). Each is two products, S = rows . first^T and result = P . second:
//   operation        rows  first  second  result
//   forward          q     k      v       o, lse
//   shared_forward   q     k      v       o
//   value_backward   k     q      d_o     dv = P^T dO
// The kernel is persistent: each multiprocessor has one block, which processes one work tile after another, with 64 rows per
// consumer. The longest work tiles come first. They are assigned to blocks in alternating direction, so that all blocks get
// about the same work. Meanwhile the producer already loads for the next work tile.
// S of a tile of columns overlaps with P . second of the previous tile, and P is computed from S while that product still runs.
// The exponentials of one consumer overlap with the products of the others.
// forward keeps the maximum of each row and subtracts it from the scores (online softmax). The others subtract lse, and need no
// maximum, sum or division. Shared memory: 2 tiles of rows, and kStages tiles of each operand of 96 or 128 columns: 146 KiB (W
// = 64) or 193 KiB (W = 128). Bytes from global memory per work tile: rows and results once, both operands of the visible
// columns once.
#include <algorithm>

#include "kernels/attention/sm90_forward_roles.cuh"

namespace echo::kernels::cuda::attention::sm90 {
namespace {

using sm80::group_splits;
using sm80::Partials;

template <int W, Operation kOperation>
__global__ void __launch_bounds__(ForwardShape<W, kOperation>::kThreads, 1)
    attention_rows(const __grid_constant__ ForwardMaps maps, const ForwardArguments arguments) {
  auto& shared = *shared_memory<ForwardMemory<W, kOperation>>();
  const int group = uniform(int(threadIdx.x) / kGroupThreads);
  if (threadIdx.x == 0) shared.start_pipelines();
  __syncthreads();
  if (group == ForwardShape<W, kOperation>::kGroups)
    load_tiles(shared, maps, arguments);
  else
    compute_rows(shared, arguments, group);
}

// `second` and the result `to` as in the table above; the rest as in ForwardArguments.
template <int W, Operation kOperation>
void run(const HeadView<bfloat16>& to, const HeadView<bfloat16>& second, float* partial, float* lse,
         const AttentionProblem<bfloat16>& problem, int splits) {
  using S = ForwardShape<W, kOperation>;
  const CUtensorMap queries = tile_map(problem.q, problem, problem.heads, S::kOfKeys ? S::kColumns : S::kRows);
  const CUtensorMap keys = tile_map(problem.k, problem, problem.key_heads, S::kOfKeys ? S::kRows : S::kColumns);
  const ForwardMaps maps = {
      .rows = S::kOfKeys ? keys : queries,
      .first = S::kOfKeys ? queries : keys,
      .second = tile_map(second, problem, S::kOfKeys ? problem.heads : problem.key_heads, S::kColumns),
  };
  const int64_t work_tiles = int64_t(blocks_for(problem.positions, S::kRows)) * problem.batches *
                             (S::kOfKeys ? problem.key_heads * splits : problem.heads);
  const int64_t blocks = std::min<int64_t>(work_tiles, echo::cuda::properties().multiprocessors);
  launch(attention_rows<W, kOperation>, unsigned(blocks), S::kThreads, sizeof(ForwardMemory<W, kOperation>), stream(), maps,
         ForwardArguments{to, partial, lse, problem, splits, int(work_tiles)});
}

}  // namespace

void forward(Tensor& o, Tensor& lse, const AttentionProblem<bfloat16>& problem, const Tensor& v) {
  const auto operation = problem.width <= 64 ? run<64, Operation::forward> : run<128, Operation::forward>;
  operation(head_view<bfloat16>(o), head_view<bfloat16>(v), nullptr, lse.data<float>(), problem, 1);
}

void shared_forward(Tensor& o, const AttentionProblem<bfloat16>& problem, const Tensor& lse, const Tensor& v) {
  const auto operation = problem.width <= 64 ? run<64, Operation::shared_forward> : run<128, Operation::shared_forward>;
  operation(head_view<bfloat16>(o), head_view<bfloat16>(v), nullptr, lse.data<float>(), problem, 1);
}

void value_backward(Tensor& dv, const Tensor& d_o, const AttentionProblem<bfloat16>& problem, const Tensor& lse) {
  const auto of_width = [&]<int W>() {
    const int splits = group_splits(problem, ForwardShape<W, Operation::value_backward>::kRows, 4);
    const Partials partials(problem, splits, dv.device());
    run<W, Operation::value_backward>(head_view<bfloat16>(dv), head_view<bfloat16>(d_o), partials.data(), lse.data<float>(),
                                      problem, splits);
    partials.add_up(dv, 1);
  };
  problem.width <= 64 ? of_width.operator()<64>() : of_width.operator()<128>();
}

}  // namespace echo::kernels::cuda::attention::sm90
