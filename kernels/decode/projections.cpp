#include "kernels/decode/projections.h"

#include "kernels/decode/cache_append.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"

namespace echo::kernels {
namespace {

void check(const char* operation, const Tensor& x, const Tensor& weight, int64_t rows_of_weight) {
  ECHO_CHECK(x.defined() && x.rank() == 2 && x.is_contiguous() && is_float(x.dtype()), operation, ": x is ", x,
             ", expected contiguous (B, D)");
  ECHO_CHECK(weight.defined() && (weight.shape() == Shape{rows_of_weight, x.dim(1)}) && weight.dtype() == x.dtype() &&
                 weight.device() == x.device(),
             operation, ": weight is ", weight, " on ", weight.device(), ", expected (", rows_of_weight, ", ", x.dim(1),
             ") beside x ", x, " on ", x.device());
}

void check_result(const char* operation, const Tensor& result, const Tensor& x, int64_t columns) {
  ECHO_CHECK(result.defined() && (result.shape() == Shape{x.dim(0), columns}) && result.is_contiguous() &&
                 result.dtype() == x.dtype() && result.device() == x.device(),
             operation, ": result is ", result, ", expected contiguous (", x.dim(0), ", ", columns, ") beside x ", x);
}

void check_cache(const char* operation, const Tensor& cache, const Tensor& x, const Tensor& lengths) {
  ECHO_CHECK(cache.defined() && cache.rank() == 4 && cache.dim(0) == x.dim(0) && cache.dim(1) > 0 && cache.dim(3) > 0 &&
                 cache.stride(3) == 1 && cache.dtype() == x.dtype() && cache.device() == x.device(),
             operation, ": cache is ", cache, " for x ", x);
  ECHO_CHECK(lengths.defined() && (lengths.shape() == Shape{x.dim(0)}) && lengths.dtype() == DType::i32 &&
                 lengths.is_contiguous() && lengths.device() == x.device(),
             operation, ": lengths are ", lengths, " for x ", x);
}

void check_norm(const char* operation, const NormedRows& x) {
  ECHO_CHECK(x.residual.defined() && x.residual.rank() == 2 && x.weight.defined() &&
                 (x.weight.shape() == Shape{x.residual.dim(1)}) && x.weight.is_contiguous() &&
                 x.weight.device() == x.residual.device(),
             operation, ": norm's weight is ", x.weight, " for x ", x.residual);
}

// RMSNorm(x) W^T
void project(Tensor& y, const NormedRows& x, const Tensor& weight) {
  Tensor normed = Tensor::empty_like(x.residual),
         inverse_rms = Tensor::empty({x.residual.dim(0)}, accumulator_dtype(x.residual.dtype()), x.residual.device());
  rms_norm_forward(normed, inverse_rms, x.residual, x.weight, x.eps);
  matmul(y, normed, Transpose::no, weight, Transpose::yes);
}

}  // namespace

namespace one_by_one {

void project_heads(Tensor& projected, Tensor& k_cache, Tensor& v_cache, const NormedRows& x, const Tensor& weight,
                   const RopeTable& table, const Tensor& lengths) {
  const int64_t key_heads = k_cache.dim(2), width = k_cache.dim(3), heads = projected.dim(1) / width - 2 * key_heads;
  project(projected, x, weight);
  const Tensor all = projected.reshape({x.residual.dim(0), 1, heads + 2 * key_heads, width});
  Tensor q = all.narrow(2, 0, heads);
  rotate_and_append(q, k_cache, v_cache, all.narrow(2, heads, key_heads), all.narrow(2, heads + key_heads, key_heads), table,
                    lengths);
}

void project_values(Tensor& v_cache, const NormedRows& x, const Tensor& weight, const Tensor& lengths) {
  const int64_t batch = x.residual.dim(0), heads = v_cache.dim(2), width = v_cache.dim(3);
  Tensor v = Tensor::empty({batch, heads * width}, x.residual.dtype(), x.residual.device());
  project(v, x, weight);
  append_to_cache(v_cache, v.reshape({batch, 1, heads, width}), lengths);
}

void project_gated(Tensor& y, const NormedRows& x, const Tensor& weight) {
  Tensor gate_up = Tensor::empty({y.dim(0), 2 * y.dim(1)}, y.dtype(), y.device());
  project(gate_up, x, weight);
  swiglu_forward(y, gate_up);
}

void project_onto(Tensor& x, const Tensor& y, const Tensor& weight) {
  Tensor product = Tensor::empty_like(x);
  matmul(product, y, Transpose::no, weight, Transpose::yes);
  add_scaled(x, product, 1);
}

}  // namespace one_by_one

void project_heads(Tensor& projected, Tensor& k_cache, Tensor& v_cache, const NormedRows& x, const Tensor& weight,
                   const RopeTable& table, const Tensor& lengths) {
  check_norm("project_heads", x);
  check_cache("project_heads", k_cache, x.residual, lengths);
  check_cache("project_heads", v_cache, x.residual, lengths);
  const int64_t key_heads = k_cache.dim(2), width = k_cache.dim(3), columns = projected.dim(-1),
                heads = columns / width - 2 * key_heads;
  check("project_heads", x.residual, weight, columns);
  check_result("project_heads", projected, x.residual, columns);
  ECHO_CHECK(k_cache.shape() == v_cache.shape() && heads > 0 && columns % width == 0 && width % 2 == 0,
             "project_heads: ", columns, " columns for caches ", k_cache, " and ", v_cache);
  for (const Tensor* part : {&table.cosine, &table.sine})
    ECHO_CHECK(part->defined() && part->rank() == 2 && part->dim(0) >= k_cache.dim(1) && part->dim(1) == width / 2 &&
                   part->is_contiguous() && part->dtype() == accumulator_dtype(x.residual.dtype()) &&
                   part->device() == x.residual.device(),
               "project_heads: the table is ", *part, " for a cache ", k_cache);
  ECHO_DISPATCH_DEVICE(projected, project_heads, projected, k_cache, v_cache, x, weight, table, lengths);
}

void project_values(Tensor& v_cache, const NormedRows& x, const Tensor& weight, const Tensor& lengths) {
  check_norm("project_values", x);
  check_cache("project_values", v_cache, x.residual, lengths);
  check("project_values", x.residual, weight, v_cache.dim(2) * v_cache.dim(3));
  ECHO_DISPATCH_DEVICE(v_cache, project_values, v_cache, x, weight, lengths);
}

void project_gated(Tensor& y, const NormedRows& x, const Tensor& weight) {
  check_norm("project_gated", x);
  check("project_gated", x.residual, weight, 2 * y.dim(-1));
  check_result("project_gated", y, x.residual, y.dim(-1));
  ECHO_DISPATCH_DEVICE(y, project_gated, y, x, weight);
}

void project_onto(Tensor& x, const Tensor& y, const Tensor& weight) {
  check("project_onto", y, weight, x.dim(-1));
  check_result("project_onto", x, y, x.dim(-1));
  ECHO_DISPATCH_DEVICE(x, project_onto, x, y, weight);
}

}  // namespace echo::kernels
