#pragma once

// Attention for gpu_benchmark: forward step of a leader and of a follower, and backward step of a block of layers. If a request
// asks for a "sketch", the first answer contains one of each result (benchmarks/result_sketch.h).
#include <cmath>
#include <memory>
#include <utility>

#include "benchmarks/benchmark_case.h"
#include "benchmarks/result_sketch.h"
#include "kernels/attention/attention.h"

namespace echo::benchmarks {

using nlohmann::json;

// A block of layers that share a matrix. Queries, keys and values are slices of fused projections, as in the model.
struct AttentionBlockTensors {
  Tensor q, k, lse, delta, dq, dk;
  struct Layer {
    Tensor v, o, d_o, dv;
  };
  std::vector<Layer> layers;
  double scale = 1;

  // {"rows", "tokens", "heads", "kv_heads", "head_dim", "layers"}
  AttentionBlockTensors(const json& request, Device device) {
    const int64_t rows = request.at("rows"), tokens = request.at("tokens"), width = request.at("head_dim");
    const int64_t heads = request.at("heads"), kv_heads = request.at("kv_heads"), count = request.value("layers", 1);
    const DType dtype = dtype_from(request);
    const Tensor fused = random_tensor({rows, tokens, heads + 2 * kv_heads, width}, dtype, device, 1);
    const Tensor d_fused = Tensor::empty_like(fused);
    scale = 1 / std::sqrt(double(width));
    q = fused.narrow(2, 0, heads), k = fused.narrow(2, heads, kv_heads);
    dq = d_fused.narrow(2, 0, heads), dk = d_fused.narrow(2, heads, kv_heads);
    lse = Tensor::empty({rows, heads, tokens}, DType::f32, device);
    delta = Tensor::zeros_like(lse);
    for (int64_t i = 0; i < count; ++i) {
      const Shape outputs{rows, tokens, heads, width}, values{rows, tokens, kv_heads, width};
      Layer layer;
      layer.v = i == 0 ? fused.narrow(2, heads + kv_heads, kv_heads) : random_tensor(values, dtype, device, uint64_t(10 + i));
      layer.dv = i == 0 ? d_fused.narrow(2, heads + kv_heads, kv_heads) : Tensor::empty(values, dtype, device);
      layer.d_o = random_tensor(outputs, dtype, device, uint64_t(20 + i));
      layer.o = Tensor::empty(outputs, dtype, device);
      layers.push_back(layer);
    }
    forward();
    for (size_t i = 1; i < layers.size(); ++i) follower_forward(i);
  }

  void forward() { kernels::attention_forward(layers[0].o, lse, q, k, layers[0].v, {}, scale); }
  void follower_forward(size_t i) { kernels::shared_attention_forward(layers[i].o, q, k, lse, layers[i].v, {}, scale); }
  void backward() {
    delta.fill_zero();
    std::vector<kernels::SharingLayer> sharing;
    for (Layer& layer : layers) {
      kernels::attention_delta(delta, layer.d_o, layer.o);
      sharing.push_back({layer.d_o, layer.v});
    }
    for (size_t i = 1; i < layers.size(); ++i)
      kernels::attention_value_backward(layers[i].dv, layers[i].d_o, q, k, lse, {}, scale);
    kernels::attention_backward(dq, dk, layers[0].dv, sharing, q, k, lse, delta, {}, scale);
  }
};

// Starts the work of a case, by its name.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

inline BenchmarkCase attention_case(const json& request, std::function<void()> work, NamedTensors results) {
  BenchmarkCase result;
  result.work = std::move(work);
  if (request.value("sketch", false))
    result.report = [results = std::move(results), is_told = false](json& answer) mutable {
      if (std::exchange(is_told, true)) return;
      for (const auto& [name, tensor] : results) answer["sketch"][name] = sketch_of(tensor);
    };
  return result;
}

inline BenchmarkCase attention_forward_case(const json& request, Device device) {
  const auto tensors = std::make_shared<AttentionBlockTensors>(request, device);
  return attention_case(request, [tensors] { tensors->forward(); }, {{"o", tensors->layers[0].o}, {"lse", tensors->lse}});
}

inline BenchmarkCase follower_forward_case(json request, Device device) {
  request["layers"] = 2;
  const auto tensors = std::make_shared<AttentionBlockTensors>(request, device);
  return attention_case(request, [tensors] { tensors->follower_forward(1); }, {{"o", tensors->layers[1].o}});
}

inline BenchmarkCase attention_backward_case(const json& request, Device device) {
  const auto tensors = std::make_shared<AttentionBlockTensors>(request, device);
  NamedTensors results{{"dq", tensors->dq}, {"dk", tensors->dk}};
  for (size_t i = 0; i < tensors->layers.size(); ++i) results.emplace_back("dv" + std::to_string(i), tensors->layers[i].dv);
  return attention_case(
      request, [tensors] { tensors->backward(); }, std::move(results));
}

}  // namespace echo::benchmarks
