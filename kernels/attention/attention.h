#pragma once

#include <span>

#include "kernels/attention/sharing_layer.h"
#include "tensor/tensor.h"

namespace echo::kernels {

// Causal attention with grouped heads, and the shared attention of a block of layers. The first layer of a block (its leader)
// computes the matrix of probabilities P from its queries and keys. All layers of the block apply P to their own values.
//   P[b,h,t,s] = exp(scale * q[b,t,h] . k[b,s,h'] - lse[b,h,t])  for first_key[b,t] <= s <= t, else 0;  h' = h / (H / Hkv)
// P is never stored. Each function rebuilds it tile by tile, so memory beyond the arguments is at most linear in T.
//
//   q, o, d_o, dq: (B, T, H, Dh);  k, v, dk, dv: (B, T, Hkv, Dh);  all of one dtype (f32, bf16, or f64 on the CPU). The last
//   dimension has stride 1, the others any stride, so slices of a fused projection are allowed. q and k are already rotated.
//   lse, delta: (B, H, T), contiguous, in the accumulator dtype (f32; f64 for f64), which is also the dtype of all sums.
//   first_key: undefined, or (B, T) i32, contiguous, 0 <= first_key[b,t] <= t. Earlier keys are masked, because they belong to
//   another document.
// Throws Error when shapes, dtypes, strides or devices do not fit. Outputs must not overlap inputs. Results do not depend on
// the number of threads.
// Sources: Dao 2023, arXiv:2307.08691 (tiles, log-sum-exp). ARCHITECTURE.md describes the deferred gradient of a block.
//
// Which kernel runs (files of kernels/attention; on a GPU attention.cu chooses):
//   CPU                 cpu_forward.cpp, cpu_backward.cpp; attention.cpp checks the arguments and computes delta
//   GPU                 leader, follower forward   follower backward        leader's backward
//   Hopper              sm90_forward.cu            sm90_forward.cu          sm90_backward.cu, for up to 5 layers (heads of more
//                                                                           than 64 columns: 2), otherwise as on Ampere
//   Ampere and newer    sm80_forward.cu            sm80_value_backward.cu   sm80_backward_whole_heads.cu where whole heads are
//                                                                           quicker, otherwise sm80_backward.cu
//   On any GPU: plain.cu for f32 and for wide or unaligned heads (views.cuh lists what the others support), attention.cu for
//   delta
// ECHOATT_ATTENTION in the environment selects other kernels, for comparisons (choice.h).

// A leader's forward step: o = P v, and lse[b,h,t] = log sum_s exp(scale * q . k).
void attention_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first_key,
                       double scale);

// A follower's forward step: o = P v, with the leader's q, k and lse.
void shared_attention_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& lse, const Tensor& v,
                              const Tensor& first_key, double scale);

// delta[b,h,t] += sum over Dh of d_o * o. Every layer of a block adds its part before the leader's backward step.
void attention_delta(Tensor& delta, const Tensor& d_o, const Tensor& o);

// A follower's backward step: dv = P^T d_o, summed over the heads of a group. Overwrites dv.
void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale);

// The leader's backward step, once per block. `layers` has one entry per layer of the block, the leader first. delta is the sum
// of attention_delta over the same layers.
//   dP = sum_j d_o_j v_j^T,  dS = P * (dP - delta),  dq = scale dS k,  dk = scale dS^T q,  dv_of_leader = P^T d_o_0
// Overwrites its outputs. dv_of_leader may be undefined. Throws Error as above, and when layers is empty. A block of k layers
// needs 5k + 2 products of tiles for forward and backward together. On GPUs before Hopper this holds only when whole heads fill
// the GPU. Otherwise the backward step computes k + 1 of them twice.
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
// f32 or bf16, Dh up to 256. When first_key[b,t] is greater than t, the output of attention_forward at that position is NaN.
namespace cuda {
decltype(kernels::attention_forward) attention_forward;
decltype(kernels::shared_attention_forward) shared_attention_forward;
decltype(kernels::attention_delta) attention_delta;
decltype(kernels::attention_value_backward) attention_value_backward;
decltype(kernels::attention_backward) attention_backward;
}  // namespace cuda

}  // namespace echo::kernels
