#pragma once

#include <span>

#include "kernels/attention/sharing_layer.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// Causal attention with grouped heads, and the shared attention of a block of layers: the first layer of a block (its leader)
// makes the matrix of probabilities P from its queries and keys, all layers of the block apply it to values of their own.
//   P[b,h,t,s] = exp(scale * q[b,t,h] . k[b,s,h'] - lse[b,h,t])  for first_key[b,t] <= s <= t, else 0;  h' = h / (H / Hkv)
// P is never stored: each function rebuilds it tile by tile, so memory beyond the arguments is at most linear in T.
//
//   q, o, d_o, dq: (B, T, H, Dh);  k, v, dk, dv: (B, T, Hkv, Dh);  all of one dtype (f32, bf16, f64), any strides except that
//   the last dimension has stride 1 (slices of one fused projection's output will do). q and k come rotated.
//   lse, delta: (B, H, T) contiguous, in the accumulator dtype (f32; f64 for f64), in which all sums are kept.
//   first_key: undefined, or (B, T) i32 contiguous, 0 <= first_key[b,t] <= t: earlier keys are masked (another document).
// Throws Error when shapes, dtypes, strides or devices do not fit. Outputs do not overlap inputs. Results are the same for any
// number of threads.
// Sources: Dao 2023, arXiv:2307.08691 (tiles, log-sum-exp); the deferred gradient of a block: ARCHITECTURE.md.
//
// Which kernel runs (files of kernels/attention; on a GPU attention.cu chooses):
//   CPU                 cpu_forward.cpp, cpu_backward.cpp; attention.cpp checks the arguments and has delta
//   GPU                 leader, follower forward   follower backward        leader's backward
//   Hopper              sm90_forward.cu            sm90_forward.cu          sm90_backward.cu, for up to 5 layers (heads of more
//                                                                           than 64 columns: 2), else as Ampere and newer
//   Ampere and newer    sm80_forward.cu            sm80_value_backward.cu   sm80_backward_whole_heads.cu where whole heads are
//                                                                           quicker, else sm80_backward.cu
//   f32, wide or unaligned heads, on any GPU: plain.cu (views.cuh says what the others take); delta: attention.cu
// ECHOATT_ATTENTION in the environment chooses others, to compare (choice.h).

// o = P v with lse[b,h,t] = log sum_s exp(scale * q . k), the leader's forward step.
void attention_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first_key,
                       double scale);

// o = P v with the leader's q, k and lse: a follower's forward step.
void shared_attention_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& lse, const Tensor& v,
                              const Tensor& first_key, double scale);

// delta[b,h,t] += sum over Dh of d_o * o. Every layer of a block adds its share before the leader's backward step.
void attention_delta(Tensor& delta, const Tensor& d_o, const Tensor& o);

// dv = P^T d_o, summed over the heads of a group; overwrites: a follower's backward step.
void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale);

// The leader's backward step, once per block. With one entry of `layers` per layer (the leader's own first) and delta the sum
// of attention_delta over the same layers:
//   dP = sum_j d_o_j v_j^T,  dS = P * (dP - delta),  dq = scale dS k,  dk = scale dS^T q,  dv_of_leader = P^T d_o_0
// Overwrites; dv_of_leader may be undefined. A block of k layers needs 5k + 2 products of tiles, forward and backward
// together; on GPUs before Hopper that holds where whole heads fill one, else the backward step computes k + 1 of them twice.
void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv_of_leader, std::span<const SharingLayer> layers, const Tensor& q,
                        const Tensor& k, const Tensor& lse, const Tensor& delta, const Tensor& first_key, double scale);

// Arguments as above, already checked.
namespace cpu {
decltype(kernels::attention_forward) attention_forward;
decltype(kernels::shared_attention_forward) shared_attention_forward;
decltype(kernels::attention_delta) attention_delta;
decltype(kernels::attention_value_backward) attention_value_backward;
decltype(kernels::attention_backward) attention_backward;
}  // namespace cpu
// f32 or bf16, Dh up to 256. Where first_key lies beyond its row, the output of attention_forward is NaN.
namespace cuda {
decltype(kernels::attention_forward) attention_forward;
decltype(kernels::shared_attention_forward) shared_attention_forward;
decltype(kernels::attention_delta) attention_delta;
decltype(kernels::attention_value_backward) attention_value_backward;
decltype(kernels::attention_backward) attention_backward;
}  // namespace cuda

}  // namespace echo::kernels
