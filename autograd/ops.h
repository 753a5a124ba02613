#pragma once

#include "autograd/variable.h"
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/hidden_error.h"
#include "kernels/rope.h"

// Differentiable operations. Shapes are those of kernels/. Inputs are contiguous, on one device and, unless stated otherwise,
// of one floating dtype, which is also the dtype of the output. Throws Error when shapes, dtypes or devices do not fit.
// N rows, B batch, T tokens, D width, F hidden width of the MLP, V vocabulary, H heads, Dh head width.
namespace echo {

// ---- mathematics (ops_math.cpp) ----
Variable add(const Variable& a, const Variable& b);       // equal shapes
Variable subtract(const Variable& a, const Variable& b);  // equal shapes
Variable multiply(const Variable& a, const Variable& b);  // equal shapes, element by element
Variable scale(const Variable& x, double factor);
Variable square(const Variable& x);
Variable tanh(const Variable& x);
Variable sum(const Variable& x);                             // all elements -> (1)
Variable mean(const Variable& x);                            // all elements -> (1)
Variable matmul(const Variable& a, const Variable& b);       // (M, K) x (K, N) -> (M, N)
Variable add_bias(const Variable& x, const Variable& bias);  // (..., D) + (D)
Variable cast(const Variable& x, DType dtype);

// ---- shapes (ops_shape.cpp) ----
Variable reshape(const Variable& x, const Shape& shape);
// elements [start, start + length) of `dimension`, as a copy
Variable narrow(const Variable& x, int dimension, int64_t start, int64_t length);

// ---- layers (ops_nn.cpp) ----
// y = x W^T: x (..., K), weight (M, K) -> (..., M), in x's dtype. A weight of another dtype is cast for each product, unless it
// has a compute copy in x's dtype (Variable::data_as). The gradient of a leaf weight is accumulated in f32 (f64 for f64).
Variable linear(const Variable& x, const Variable& weight);
// Rows of `table` (V, D) for ids (N) i32 -> (N, D) in `dtype`.
Variable embedding(const Variable& table, const Tensor& ids, DType dtype);
// x / rms(x) * weight over the last dimension: x (..., D), weight (D) -> (..., D). See kernels/rms_norm.h.
Variable rms_norm(const Variable& x, const Variable& weight, double eps);
// {x + delta, rms_norm(x + delta)}
struct NormedSum {
  Variable sum, normed;
};
NormedSum add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps);
Variable swiglu(const Variable& gate_up);                           // (..., 2F) -> (..., F)
Variable rope(const Variable& x, const kernels::RopeTable& table);  // (B, T, H, Dh), positions from 0
Variable softmax(const Variable& x, double factor = 1.0);           // softmax(factor * x) over the last dimension

// ---- losses (ops_loss.cpp): each has shape (1) and the accumulator dtype ----
// Sum over rows of the hidden error (kernels/losses/hidden_error.h). labels: (N) i32 with -1 for padding, or undefined.
Variable hidden_error(const Variable& student, const Tensor& teacher, const Tensor& labels,
                      kernels::HiddenNormalization normalization);
// Sum over rows of the weighted loss of kernels/losses/distillation_loss.h. With an undefined teacher only the true labels
// count.
Variable distillation_loss(const Variable& student_hidden, const Variable& student_head, const Tensor& teacher_hidden,
                           const Tensor& teacher_head, const Tensor& labels, const kernels::DistillationWeights& weights);
// Sum over rows of -log softmax(logits)[label]. logits (N, V). labels (N) i32; rows with label -1 are ignored.
Variable cross_entropy(const Variable& logits, const Tensor& labels);

}  // namespace echo
