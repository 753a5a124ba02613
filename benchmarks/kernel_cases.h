#pragma once

// Single kernels for gpu_benchmark: products, copies, the head with its losses, the optimizer.
#include <memory>

#include "benchmarks/benchmark_case.h"
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/distillation_rows.h"
#include "kernels/matmul/matmul.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/gradient_norm.h"

namespace echo::benchmarks {

using nlohmann::json;

// {"bytes"}: a copy from one tensor to another.
inline BenchmarkCase copy_case(const json& request, Device device) {
  const Shape shape{request.at("bytes").get<int64_t>() / 4};
  const Tensor from = random_tensor(shape, DType::f32, device, 1);
  return {.work = [from, to = Tensor::empty_like(from)]() mutable { to.copy_from(from); }};
}

// {"m", "n", "k", "transpose_a", "transpose_b", "output"}
inline BenchmarkCase matmul_case(const json& request, Device device) {
  const int64_t m = request.at("m"), n = request.at("n"), k = request.at("k");
  const bool a_is_transposed = request.value("transpose_a", false), b_is_transposed = request.value("transpose_b", false);
  const DType dtype = dtype_from(request);
  const Tensor a = random_tensor(a_is_transposed ? Shape{k, m} : Shape{m, k}, dtype, device, 1);
  const Tensor b = random_tensor(b_is_transposed ? Shape{n, k} : Shape{k, n}, dtype, device, 2);
  Tensor c = Tensor::empty({m, n}, request.value("output", "") == "f32" ? DType::f32 : dtype, device);
  const auto mode = [](bool transposed) { return transposed ? kernels::Transpose::yes : kernels::Transpose::no; };
  return {.work = [=, ta = mode(a_is_transposed), tb = mode(b_is_transposed)]() mutable { kernels::matmul(c, a, ta, b, tb); }};
}

// {"tokens", "hidden", "vocab", "teacher"}: the products of the heads, three losses (one without a teacher), and the gradients
// of hidden states and the student's head.
inline BenchmarkCase head_case(const json& request, Device device) {
  const int64_t tokens = request.at("tokens"), width = request.at("hidden"), vocabulary = request.at("vocab");
  const bool with_teacher = request.value("teacher", true);
  const DType dtype = dtype_from(request);
  const Tensor hidden = random_tensor({tokens, width}, dtype, device, 1);
  const Tensor head = random_tensor({vocabulary, width}, dtype, device, 2, 0.02);
  const Tensor teacher_hidden = with_teacher ? random_tensor({tokens, width}, dtype, device, 3) : Tensor();
  const Tensor teacher_head = with_teacher ? random_tensor({vocabulary, width}, dtype, device, 4, 0.02) : Tensor();
  const Tensor labels = Tensor::from(random_ids(tokens, vocabulary, 5)).to(device);
  Tensor d_hidden = Tensor::empty_like(hidden), d_head = Tensor::empty({vocabulary, width}, DType::f32, device);
  kernels::DistillationWeights weights;
  if (with_teacher)
    weights.kl = 0.25, weights.hard_label = 0.5, weights.true_label = 0.25;
  else
    weights.kl = 0, weights.hard_label = 0, weights.true_label = 1;
  const auto loss = std::make_shared<double>(0);
  BenchmarkCase result;
  result.work = [=]() mutable {
    const kernels::DistillationTerms terms =
        kernels::distillation_head(d_hidden, d_head, GradientMode::overwrite, hidden, head, teacher_hidden, teacher_head,
                                   labels, weights, 1 / double(tokens));
    *loss = kernels::weighted_loss(terms, weights) / double(tokens);
  };
  result.report = [loss](json& answer) { answer["loss"] = *loss; };
  return result;
}

// {"loss_tokens", "vocab"}: three losses and the gradient of the logits, from logits of student and teacher, without products.
inline BenchmarkCase loss_rows_case(const json& request, Device device) {
  const int64_t rows = request.at("loss_tokens"), vocabulary = request.at("vocab");
  const DType dtype = dtype_from(request);
  const Tensor student = random_tensor({rows, vocabulary}, DType::f32, device, 1);
  const Tensor teacher = random_tensor({rows, vocabulary}, DType::f32, device, 2);
  const Tensor labels = Tensor::from(random_ids(rows, vocabulary, 3)).to(device);
  Tensor gradient = Tensor::empty({rows, vocabulary}, dtype, device);
  const kernels::DistillationWeights weights{.kl = 0.25, .hard_label = 0.5, .true_label = 0.25};
  return {.work = [=, terms = kernels::RowTerms(rows, device), scale = 1 / double(rows)]() mutable {
    kernels::distillation_rows(terms, 0, gradient, student, teacher, labels, weights, scale);
  }};
}

// {"parameters", "spans"}: f32 tensors of equal size.
inline std::vector<Tensor> parameter_like(const json& request, Device device, double deviation) {
  const int64_t spans = request.at("spans"), each = request.at("parameters").get<int64_t>() / spans;
  std::vector<Tensor> result;
  for (int64_t i = 0; i < spans; ++i) result.push_back(random_tensor({each}, DType::f32, device, uint64_t(i), deviation));
  return result;
}

// With the bf16 copy that the products of the next step read.
inline BenchmarkCase adamw_case(const json& request, Device device) {
  std::vector<kernels::AdamWSpan> spans;
  const std::vector<Tensor> parameters = parameter_like(request, device, 0.02),
                            gradients = parameter_like(request, device, 1e-3);
  for (size_t i = 0; i < parameters.size(); ++i) {
    kernels::AdamWSpan span;
    span.parameter = parameters[i];
    span.gradient = gradients[i];
    span.first_moment = Tensor::zeros_like(parameters[i]);
    span.second_moment = Tensor::zeros_like(parameters[i]);
    span.compute_copy = Tensor::empty(parameters[i].shape(), DType::bf16, device);
    spans.push_back(span);
  }
  return {.work = [spans, step = int64_t{0}]() mutable { kernels::adamw(spans, {.learning_rate = 1e-4, .step = ++step}); }};
}

inline BenchmarkCase gradient_norm_case(const json& request, Device device) {
  return {.work = [gradients = parameter_like(request, device, 1e-3)] { kernels::gradient_norm(gradients); }};
}

}  // namespace echo::benchmarks
