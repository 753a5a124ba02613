#include "kernels/matmul/cpu_engine.h"

#include <vector>

#if ECHO_WITH_ONEDNN
#include <dnnl.hpp>
#include <map>
#include <tuple>
#else
#include <cblas.h>
#endif

namespace echo::kernels::engine {
namespace {

// bf16 products through f32, for processors and libraries without bf16 products.
void matmul_bf16_widened(void* c, DType c_dtype, int64_t ldc, const bfloat16* a, int64_t lda, bool transpose_a,
                         const bfloat16* b, int64_t ldb, bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate) {
  const auto widen = [](const bfloat16* source, int64_t stride, int64_t rows, int64_t columns) {
    std::vector<float> result(size_t(rows * columns));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) result[size_t(i * columns + j)] = source[i * stride + j];
    return result;
  };
  const std::vector<float> wide_a = transpose_a ? widen(a, lda, k, m) : widen(a, lda, m, k);
  const std::vector<float> wide_b = transpose_b ? widen(b, ldb, n, k) : widen(b, ldb, k, n);
  const int64_t wide_lda = transpose_a ? m : k, wide_ldb = transpose_b ? k : n;
  if (c_dtype == DType::f32) {
    matmul_f32(static_cast<float*>(c), ldc, wide_a.data(), wide_lda, transpose_a, wide_b.data(), wide_ldb, transpose_b, m, n, k,
               accumulate);
    return;
  }
  bfloat16* narrow = static_cast<bfloat16*>(c);
  std::vector<float> wide_c = accumulate ? widen(narrow, ldc, m, n) : std::vector<float>(size_t(m * n));
  matmul_f32(wide_c.data(), n, wide_a.data(), wide_lda, transpose_a, wide_b.data(), wide_ldb, transpose_b, m, n, k, accumulate);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) narrow[i * ldc + j] = bfloat16(wide_c[size_t(i * n + j)]);
}

#if ECHO_WITH_ONEDNN

using dnnl::memory;

struct Bf16Primitive {
  dnnl::matmul primitive;  // empty when oneDNN has no bf16 product for this processor
  memory::desc a, b, c;
};

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int>;

Bf16Primitive make_primitive(DType c_dtype, int64_t ldc, int64_t lda, bool ta, int64_t ldb, bool tb, int64_t m, int64_t n,
                             int64_t k, bool accumulate) {
  using Data = memory::data_type;
  Bf16Primitive result;
  result.a = memory::desc({m, k}, Data::bf16, ta ? memory::dims{1, lda} : memory::dims{lda, 1});
  result.b = memory::desc({k, n}, Data::bf16, tb ? memory::dims{1, ldb} : memory::dims{ldb, 1});
  result.c = memory::desc({m, n}, c_dtype == DType::f32 ? Data::f32 : Data::bf16, memory::dims{ldc, 1});
  dnnl::primitive_attr attributes;
  if (accumulate) {
    dnnl::post_ops add;
    add.append_sum(1.0f);
    attributes.set_post_ops(add);
  }
  try {
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(result.a, result.b, result.c), attributes, cpu());
    // The reference implementation is a simple loop, slower than converting to f32.
    if (std::string_view(description.impl_info_str()).find("ref") == std::string_view::npos)
      result.primitive = dnnl::matmul(description);
  } catch (const dnnl::error&) {  // no bf16 products on this processor: the primitive stays empty
  }
  return result;
}

#endif

}  // namespace

#if ECHO_WITH_ONEDNN

void matmul_f32(float* c, int64_t ldc, const float* a, int64_t lda, bool transpose_a, const float* b, int64_t ldb,
                bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate) {
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb,
                                          accumulate ? 1.0f : 0.0f, c, ldc);
  ECHO_CHECK(status == dnnl_success, "matmul: dnnl_sgemm failed with status ", int(status), " for m ", m, ", n ", n, ", k ", k,
             ", lda ", lda, ", ldb ", ldb, ", ldc ", ldc);
}

void matmul_bf16(void* c, DType c_dtype, int64_t ldc, const bfloat16* a, int64_t lda, bool transpose_a, const bfloat16* b,
                 int64_t ldb, bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate) {
  // Creating a primitive generates machine code, which takes milliseconds. A training step repeats the same few shapes.
  thread_local std::map<Key, Bf16Primitive> primitives;
  constexpr size_t kMaximumKept = 512;  // generation has many shapes that occur only once
  const int flags = transpose_a | transpose_b << 1 | accumulate << 2 | (c_dtype == DType::f32) << 3;
  const Key key{m, n, k, lda, ldb, ldc, flags};
  auto found = primitives.find(key);
  if (found == primitives.end()) {
    if (primitives.size() >= kMaximumKept) primitives.clear();
    found =
        primitives.emplace(key, make_primitive(c_dtype, ldc, lda, transpose_a, ldb, transpose_b, m, n, k, accumulate)).first;
  }
  const Bf16Primitive& product = found->second;
  if (!product.primitive)
    return matmul_bf16_widened(c, c_dtype, ldc, a, lda, transpose_a, b, ldb, transpose_b, m, n, k, accumulate);
  thread_local dnnl::stream stream(cpu());
  product.primitive.execute(stream, {{DNNL_ARG_SRC, memory(product.a, cpu(), const_cast<bfloat16*>(a))},
                                     {DNNL_ARG_WEIGHTS, memory(product.b, cpu(), const_cast<bfloat16*>(b))},
                                     {DNNL_ARG_DST, memory(product.c, cpu(), c)}});
  stream.wait();
}

#else

void matmul_f32(float* c, int64_t ldc, const float* a, int64_t lda, bool transpose_a, const float* b, int64_t ldb,
                bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, int(m), int(n),
              int(k), 1.0f, a, int(lda), b, int(ldb), accumulate ? 1.0f : 0.0f, c, int(ldc));
}

void matmul_bf16(void* c, DType c_dtype, int64_t ldc, const bfloat16* a, int64_t lda, bool transpose_a, const bfloat16* b,
                 int64_t ldb, bool transpose_b, int64_t m, int64_t n, int64_t k, bool accumulate) {
  matmul_bf16_widened(c, c_dtype, ldc, a, lda, transpose_a, b, ldb, transpose_b, m, n, k, accumulate);
}

#endif

}  // namespace echo::kernels::engine
