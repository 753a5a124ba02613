#pragma once

// Kernels of a layer that work element by element or row by row, for gpu_benchmark: one function per kernel, and their table.
#include <map>
#include <string>

#include "benchmarks/benchmark_case.h"
#include "kernels/attention/attention.h"
#include "kernels/cast.h"
#include "kernels/embedding.h"
#include "kernels/losses/hidden_error.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/softmax.h"
#include "kernels/swiglu.h"

namespace echo::benchmarks {

using nlohmann::json;

// Sizes of a request, and tensors of these sizes. Each random tensor has a seed of its own.
struct LayerTensors {
  LayerTensors(const json& request, Device on)
      : tokens(request.at("tokens")),
        width(request.at("hidden")),
        mlp(request.at("mlp")),
        vocabulary(request.at("vocab")),
        heads(request.at("heads")),
        kv_heads(request.at("kv_heads")),
        head_dim(request.at("head_dim")),
        sequence(request.at("sequence")),
        rows{tokens, width},
        dtype(dtype_from(request)),
        device(on),
        weight(random({width}, DType::f32)) {}

  Tensor random(const Shape& shape, DType type) { return random_tensor(shape, type, device, seed++); }
  Tensor random(const Shape& shape) { return random(shape, dtype); }
  Tensor empty(const Shape& shape, DType type) const { return Tensor::empty(shape, type, device); }
  Tensor empty(const Shape& shape) const { return empty(shape, dtype); }
  Tensor ids() { return Tensor::from(random_ids(tokens, vocabulary, seed++)).to(device); }

  int64_t tokens, width, mlp, vocabulary, heads, kv_heads, head_dim, sequence;
  Shape rows;
  DType dtype;
  Device device;
  uint64_t seed = 1;
  Tensor weight;  // (width) f32
};

inline BenchmarkCase rms_norm_forward_case(LayerTensors& t) {
  return {.work = [x = t.random(t.rows), y = t.empty(t.rows), inverse = t.empty({t.tokens}, DType::f32),
                   weight = t.weight]() mutable { kernels::rms_norm_forward(y, inverse, x, weight, 1e-5); }};
}

inline BenchmarkCase add_rms_norm_forward_case(LayerTensors& t) {
  return {.work = [x = t.random(t.rows), delta = t.random(t.rows), sum = t.empty(t.rows), y = t.empty(t.rows),
                   inverse = t.empty({t.tokens}, DType::f32),
                   weight = t.weight]() mutable { kernels::add_rms_norm_forward(sum, y, inverse, x, delta, weight, 1e-5); }};
}

inline BenchmarkCase rms_norm_backward_case(LayerTensors& t) {
  const Tensor x = t.random(t.rows), weight = t.weight;
  Tensor y = t.empty(t.rows), inverse = t.empty({t.tokens}, DType::f32);
  kernels::rms_norm_forward(y, inverse, x, weight, 1e-5);
  return {
      .work = [=, dy = t.random(t.rows), d_sum = t.random(t.rows), dx = y, dweight = t.empty({t.width}, DType::f32)]() mutable {
        kernels::rms_norm_backward(dx, dweight, GradientMode::overwrite, dy, d_sum, x, weight, inverse);
      }};
}

inline BenchmarkCase rope_case(LayerTensors& t) {
  const kernels::RopeTable table{t.random({t.sequence, t.head_dim / 2}, DType::f32),
                                 t.random({t.sequence, t.head_dim / 2}, DType::f32)};
  const int64_t batches = t.tokens / t.sequence, rotated_heads = t.heads + t.kv_heads;
  const Tensor fused = t.random({batches, t.sequence, t.heads + 2 * t.kv_heads, t.head_dim});
  return {.work = [table, x = fused.narrow(2, 0, rotated_heads),
                   rotated = t.empty({batches, t.sequence, rotated_heads, t.head_dim})]() mutable {
    kernels::rope(rotated, x, table, 0, kernels::RopeDirection::forward);
  }};
}

inline BenchmarkCase swiglu_forward_case(LayerTensors& t) {
  return {.work = [gate_up = t.random({t.tokens, 2 * t.mlp}), y = t.empty({t.tokens, t.mlp})]() mutable {
    kernels::swiglu_forward(y, gate_up);
  }};
}

inline BenchmarkCase swiglu_backward_case(LayerTensors& t) {
  return {.work = [gate_up = t.random({t.tokens, 2 * t.mlp}), dy = t.random({t.tokens, t.mlp}),
                   d_gate_up = t.empty({t.tokens, 2 * t.mlp})]() mutable { kernels::swiglu_backward(d_gate_up, dy, gate_up); }};
}

inline BenchmarkCase cast_case(LayerTensors& t) {
  return {
      .work = [from = t.random(t.rows, DType::f32), to = t.empty(t.rows, DType::bf16)]() mutable { kernels::cast(to, from); }};
}

inline BenchmarkCase softmax_forward_case(LayerTensors& t) {
  return {.work = [x = t.random(t.rows), y = t.empty(t.rows)]() mutable { kernels::softmax_forward(y, x, 1); }};
}

inline BenchmarkCase softmax_backward_case(LayerTensors& t) {
  return {.work = [y = t.random(t.rows), dy = t.random(t.rows), dx = t.empty(t.rows)]() mutable {
    kernels::softmax_backward(dx, dy, y, 1);
  }};
}

// The host waits for the sums, as in a step.
inline BenchmarkCase hidden_error_case(LayerTensors& t) {
  return {.work = [student = t.random(t.rows), teacher = t.random(t.rows), d_student = t.empty(t.rows),
                   tokens = t.tokens]() mutable {
    kernels::hidden_error(d_student, GradientMode::overwrite, student, teacher, {}, kernels::HiddenNormalization::none,
                          1 / double(tokens));
  }};
}

inline BenchmarkCase attention_delta_case(LayerTensors& t) {
  const int64_t batches = t.tokens / t.sequence;
  const Shape outputs{batches, t.sequence, t.heads, t.head_dim};
  return {.work = [d_o = t.random(outputs), o = t.random(outputs),
                   delta = Tensor::zeros({batches, t.heads, t.sequence}, DType::f32, t.device)]() mutable {
    kernels::attention_delta(delta, d_o, o);
  }};
}

inline BenchmarkCase embedding_forward_case(LayerTensors& t) {
  return {.work = [ids = t.ids(), y = t.empty(t.rows), table = t.random({t.vocabulary, t.width}, DType::f32)]() mutable {
    kernels::embedding_forward(y, ids, table);
  }};
}

inline BenchmarkCase embedding_backward_case(LayerTensors& t) {
  return {.work = [ids = t.ids(), dy = t.random(t.rows), d_table = t.empty({t.vocabulary, t.width}, DType::f32)]() mutable {
    kernels::embedding_backward(d_table, GradientMode::overwrite, dy, ids);
  }};
}

// {"kernel", "tokens", "hidden", "mlp", "vocab", "heads", "kv_heads", "head_dim", "sequence"}
inline BenchmarkCase elementwise_case(const json& request, Device device) {
  static const std::map<std::string, BenchmarkCase (*)(LayerTensors&)> cases = {
      {"rms_norm_forward", rms_norm_forward_case},
      {"add_rms_norm_forward", add_rms_norm_forward_case},
      {"rms_norm_backward", rms_norm_backward_case},
      {"rope", rope_case},
      {"swiglu_forward", swiglu_forward_case},
      {"swiglu_backward", swiglu_backward_case},
      {"cast", cast_case},
      {"softmax_forward", softmax_forward_case},
      {"softmax_backward", softmax_backward_case},
      {"hidden_error", hidden_error_case},
      {"attention_delta", attention_delta_case},
      {"embedding_forward", embedding_forward_case},
      {"embedding_backward", embedding_backward_case},
  };
  const std::string kernel = request.at("kernel");
  const auto found = cases.find(kernel);
  if (found == cases.end()) fail(ExitCode::usage, "kernel ", kernel, " is not known");
  LayerTensors tensors(request, device);
  return found->second(tensors);
}

}  // namespace echo::benchmarks
