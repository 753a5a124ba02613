#include "autograd/shared_attention.h"

#include <cmath>

#include "autograd/tape.h"

namespace echo {
namespace {

using kernels::RopeDirection;

// The gradient (B, T, H * Dh) of the output as (B, T, H, Dh). It is a copy when the tape passed a view.
Tensor as_heads(const Tensor& tensor, int64_t heads, int64_t head_dim) {
  return tensor.contiguous().reshape({tensor.dim(0), tensor.dim(1), heads, head_dim});
}

void add_delta(SharedProbabilities& shared, const Tensor& d_o, const Tensor& o) {
  if (!shared.delta.defined()) shared.delta = Tensor::zeros(shared.lse.shape(), shared.lse.dtype(), shared.lse.device());
  kernels::attention_delta(shared.delta, d_o, o);
}

}  // namespace

AttentionBlock leader_attention(const Variable& qkv, InputMemory qkv_memory, const HeadCounts& heads,
                                const kernels::RopeTable& table, const Tensor& first_key, bool detach_shared) {
  const auto [query_heads, kv_heads, head_dim] = heads;
  const int64_t all_heads = query_heads + 2 * kv_heads;
  ECHO_CHECK(qkv.data().rank() == 3 && qkv.shape()[2] == all_heads * head_dim, "attention: qkv is ", qkv.shape(),
             ", expected (B, T, ", all_heads * head_dim, ")");
  const int64_t batch = qkv.shape()[0], tokens = qkv.shape()[1];
  const DType dtype = qkv.dtype();
  const Device device = qkv.data().device();
  const Tensor split = qkv.data().reshape({batch, tokens, all_heads, head_dim});

  auto shared = std::make_shared<SharedProbabilities>();
  shared->heads = heads;
  shared->scale = 1.0 / std::sqrt(double(head_dim));
  const Tensor queries_and_keys = split.narrow(2, 0, query_heads + kv_heads);
  Tensor rotated =
      qkv_memory == InputMemory::overwrite ? queries_and_keys : Tensor::empty(queries_and_keys.shape(), dtype, device);
  kernels::rope(rotated, queries_and_keys, table, 0, RopeDirection::forward);
  shared->q = rotated.narrow(2, 0, query_heads);
  shared->k = rotated.narrow(2, query_heads, kv_heads);
  shared->lse = Tensor::empty({batch, query_heads, tokens}, accumulator_dtype(dtype), device);
  shared->first_key = first_key;
  shared->detach = detach_shared;
  const Tensor v = split.narrow(2, query_heads + kv_heads, kv_heads);
  Tensor o = Tensor::empty({batch, tokens, query_heads, head_dim}, dtype, device);
  kernels::attention_forward(o, shared->lse, shared->q, shared->k, v, first_key, shared->scale);

  const auto backward = [shared, v, o, heads, table](const std::vector<Tensor>& gradients) -> Gradients {
    const auto [H, Hkv, Dh] = heads;
    const Tensor d_o = gradients[0].defined() ? as_heads(gradients[0], H, Dh) : Tensor::zeros_like(o);
    add_delta(*shared, d_o, o);
    std::vector<kernels::SharingLayer> layers = {{d_o, v}};
    for (kernels::SharingLayer& layer : shared->layers) layers.push_back(std::move(layer));
    shared->layers.clear();
    Tensor d_qkv = Tensor::empty({o.dim(0), o.dim(1), H + 2 * Hkv, Dh}, o.dtype(), o.device());
    Tensor dq = d_qkv.narrow(2, 0, H), dk = d_qkv.narrow(2, H, Hkv), dv = d_qkv.narrow(2, H + Hkv, Hkv);
    kernels::attention_backward(dq, dk, dv, layers, shared->q, shared->k, shared->lse, shared->delta, shared->first_key,
                                shared->scale);
    Tensor d_rotated = d_qkv.narrow(2, 0, H + Hkv);
    kernels::rope(d_rotated, d_rotated, table, 0, RopeDirection::backward);
    return {d_qkv.reshape({o.dim(0), o.dim(1), (H + 2 * Hkv) * Dh})};
  };
  const Variable output = record_many("leader_attention", {qkv}, {o.reshape({batch, tokens, query_heads * head_dim})}, backward,
                                      RunBackward::always)[0];
  return {output, shared};
}

Variable follower_attention(const Variable& v, const AttentionBlock& block) {
  const auto shared = block.shared;
  const auto [query_heads, kv_heads, head_dim] = shared->heads;
  const int64_t batch = shared->q.dim(0), tokens = shared->q.dim(1);
  ECHO_CHECK((v.shape() == Shape{batch, tokens, kv_heads * head_dim}), "follower attention: v is ", v.shape(), ", expected ",
             Shape{batch, tokens, kv_heads * head_dim});
  const Tensor values = v.data().reshape({batch, tokens, kv_heads, head_dim});
  Tensor o = Tensor::empty({batch, tokens, query_heads, head_dim}, v.dtype(), v.data().device());
  kernels::shared_attention_forward(o, shared->q, shared->k, shared->lse, values, shared->first_key, shared->scale);
  return record(
      "follower_attention", {v, block.output}, o.reshape({batch, tokens, query_heads * head_dim}),
      [shared, values, o, for_leader = !shared->detach && block.output.requires_gradient()](const Tensor& dy) -> Gradients {
        const Tensor d_o = as_heads(dy, o.dim(2), o.dim(3));
        Tensor dv = Tensor::empty(values.shape(), values.dtype(), values.device());
        kernels::attention_value_backward(dv, d_o, shared->q, shared->k, shared->lse, shared->first_key, shared->scale);
        if (for_leader) {
          add_delta(*shared, d_o, o);
          shared->layers.push_back({d_o, values});
        }
        return {dv.reshape({dv.dim(0), dv.dim(1), dv.dim(2) * dv.dim(3)}), Tensor()};
      });
}

}  // namespace echo
