#include <algorithm>

#include "autograd/gradient_target.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/softmax.h"
#include "kernels/swiglu.h"

namespace echo {

using kernels::Transpose;

namespace {

Tensor as_rows(const Tensor& x) { return x.reshape({x.elements() / std::max<int64_t>(1, x.dim(-1)), x.dim(-1)}); }

Tensor inverse_rms_for(const Tensor& x) {
  return Tensor::empty({x.elements() / std::max<int64_t>(1, x.dim(-1))}, accumulator_dtype(x.dtype()), x.device());
}

}  // namespace

Variable linear(const Variable& x, const Variable& weight) {
  ECHO_CHECK(weight.data().rank() == 2 && x.data().rank() >= 1 && x.shape()[-1] == weight.shape()[1], "linear: x ", x.shape(),
             ", weight ", weight.shape(), ", expected (..., K) and (M, K)");
  Tensor y = Tensor::empty(x.shape().with_last(weight.shape()[0]), x.dtype(), x.data().device());
  Tensor y_rows = as_rows(y);
  kernels::matmul(y_rows, as_rows(x.data()), Transpose::no, weight.data_as(x.dtype()), Transpose::yes);
  return record("linear", {x, weight}, y,
                [x = x.data(), needs_dx = x.requires_gradient(), weight](const Tensor& dy) -> Gradients {
                  const Tensor dy_rows = as_rows(dy);
                  Gradients gradients(2);
                  if (needs_dx) {
                    gradients[0] = Tensor::empty_like(x);
                    Tensor dx_rows = as_rows(gradients[0]);
                    kernels::matmul(dx_rows, dy_rows, Transpose::no, weight.data_as(x.dtype()), Transpose::no);
                  }
                  if (weight.requires_gradient()) {
                    GradientTarget dw(weight);
                    kernels::matmul(dw.tensor(), dy_rows, Transpose::yes, as_rows(x), Transpose::no, dw.mode());
                    gradients[1] = dw.result();
                  }
                  return gradients;
                });
}

Variable embedding(const Variable& table, const Tensor& ids, DType dtype) {
  Tensor y = Tensor::empty({ids.dim(0), table.shape()[1]}, dtype, table.data().device());
  kernels::embedding_forward(y, ids, table.data());
  return record("embedding", {table}, y, [table, ids](const Tensor& dy) -> Gradients {
    GradientTarget d_table(table);
    kernels::embedding_backward(d_table.tensor(), d_table.mode(), dy, ids);
    return {d_table.result()};
  });
}

Variable rms_norm(const Variable& x, const Variable& weight, double eps) {
  Tensor y = Tensor::empty_like(x.data());
  Tensor inverse_rms = inverse_rms_for(x.data());
  kernels::rms_norm_forward(y, inverse_rms, x.data(), weight.data(), eps);
  return record("rms_norm", {x, weight}, y, [x = x.data(), weight, inverse_rms](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(x);
    if (!weight.requires_gradient()) {
      Tensor none;
      kernels::rms_norm_backward(dx, none, GradientMode::overwrite, dy, Tensor(), x, weight.data(), inverse_rms);
      return {dx, Tensor()};
    }
    GradientTarget dw(weight);
    kernels::rms_norm_backward(dx, dw.tensor(), dw.mode(), dy, Tensor(), x, weight.data(), inverse_rms);
    return {dx, dw.result()};
  });
}

NormedSum add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps) {
  Tensor total = Tensor::empty_like(x.data()), y = Tensor::empty_like(x.data());
  Tensor inverse_rms = inverse_rms_for(x.data());
  kernels::add_rms_norm_forward(total, y, inverse_rms, x.data(), delta.data(), weight.data(), eps);
  const auto backward = [total, weight, inverse_rms](const std::vector<Tensor>& gradients) -> Gradients {
    const Tensor &d_total = gradients[0], &dy = gradients[1];
    if (!dy.defined()) return {d_total, d_total, Tensor()};
    Tensor dx = Tensor::empty_like(total);
    if (!weight.requires_gradient()) {
      Tensor none;
      kernels::rms_norm_backward(dx, none, GradientMode::overwrite, dy, d_total, total, weight.data(), inverse_rms);
      return {dx, dx, Tensor()};
    }
    GradientTarget dw(weight);
    kernels::rms_norm_backward(dx, dw.tensor(), dw.mode(), dy, d_total, total, weight.data(), inverse_rms);
    return {dx, dx, dw.result()};
  };
  const std::vector<Variable> outputs = record_many("add_rms_norm", {x, delta, weight}, {total, y}, backward);
  return {outputs[0], outputs[1]};
}

Variable swiglu(const Variable& gate_up) {
  Tensor y = Tensor::empty(gate_up.shape().with_last(gate_up.shape()[-1] / 2), gate_up.dtype(), gate_up.data().device());
  kernels::swiglu_forward(y, gate_up.data());
  return record("swiglu", {gate_up}, y, [gate_up = gate_up.data()](const Tensor& dy) -> Gradients {
    Tensor d_gate_up = Tensor::empty_like(gate_up);
    kernels::swiglu_backward(d_gate_up, dy, gate_up);
    return {d_gate_up};
  });
}

Variable rope(const Variable& x, const kernels::RopeTable& table) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::rope(y, x.data(), table, 0, kernels::RopeDirection::forward);
  return record("rope", {x}, y, [table](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(dy);
    kernels::rope(dx, dy, table, 0, kernels::RopeDirection::backward);
    return {dx};
  });
}

Variable softmax(const Variable& x, double factor) {
  Tensor y = Tensor::empty_like(x.data());
  kernels::softmax_forward(y, x.data(), factor);
  return record("softmax", {x}, y, [y, factor](const Tensor& dy) -> Gradients {
    Tensor dx = Tensor::empty_like(y);
    kernels::softmax_backward(dx, dy, y, factor);
    return {dx};
  });
}

}  // namespace echo
