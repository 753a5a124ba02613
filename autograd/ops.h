#pragma once

#include "autograd/variable.h"
#include "kernels/losses/distillation_loss.h"
#include "kernels/losses/hidden_error.h"
#include "kernels/rope.h"

// Differentiable operations. Shapes as in kernels/; each throws Error when shapes, dtypes or devices do not fit.
// N rows, B batch, T tokens, D width, F hidden width of the MLP, V vocabulary, H heads, Dh head width.
namespace echo {

// ---- mathematics (ops_math.cpp) ----
Variable add(const Variable& a, const Variable& b);       // one shape
Variable subtract(const Variable& a, const Variable& b);  // one shape
Variable multiply(const Variable& a, const Variable& b);  // one shape, element by element
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
Variable narrow(const Variable& x, int dimension, int64_t start, int64_t length);

// ---- layers (ops_nn.cpp) ----
// y = x W^T: x (..., K), weight (M, K) -> (..., M). A weight of another dtype than x is taken in that of x (Variable::data_as:
// cast for each product, unless a compute copy is kept); the weight's gradient is summed in f32.
Variable linear(const Variable& x, const Variable& weight);
// table (V, D), ids (N) i32 -> (N, D) in `dtype`.
Variable embedding(const Variable& table, const Tensor& ids, DType dtype);
Variable rms_norm(const Variable& x, const Variable& weight, double eps);
// {x + delta, rms_norm(x + delta)}
struct NormedSum {
  Variable sum, normed;
};
NormedSum add_rms_norm(const Variable& x, const Variable& delta, const Variable& weight, double eps);
Variable swiglu(const Variable& gate_up);                           // (..., 2F) -> (..., F)
Variable rope(const Variable& x, const kernels::RopeTable& table);  // (B, T, H, Dh), positions from 0
Variable softmax(const Variable& x, double factor = 1.0);           // softmax(factor * x) over the last dimension

// ---- losses (ops_loss.cpp); each a (1) in the accumulator dtype ----
// Sum over rows of hidden error (kernels/losses/hidden_error.h); labels (N) i32 with -1 for padding, or undefined.
Variable hidden_error(const Variable& student, const Tensor& teacher, const Tensor& labels,
                      kernels::HiddenNormalization normalization);
// Sum over rows of the weighted loss of kernels/losses/distillation_loss.h. Without teacher (undefined) only true labels count.
Variable distillation_loss(const Variable& student_hidden, const Variable& student_head, const Tensor& teacher_hidden,
                           const Tensor& teacher_head, const Tensor& labels, const kernels::DistillationWeights& weights);
// Sum over rows of -log softmax(logits)[label]. logits (N, V); labels (N) i32, -1 ignored.
Variable cross_entropy(const Variable& logits, const Tensor& labels);

}  // namespace echo
