#include "kernels/decode/cache_append.h"

#include <algorithm>

#include "kernels/dispatch.h"

namespace echo::kernels {
namespace {

void check_lengths(const char* operation, const Tensor& lengths) {
  ECHO_CHECK(lengths.defined() && lengths.rank() == 1 && lengths.dtype() == DType::i32 && lengths.is_contiguous(), operation,
             ": lengths are ", lengths, ", expected contiguous i32 (B)");
}

void check_rows(const char* operation, const Tensor& cache, const Tensor& rows, const Tensor& lengths) {
  check_lengths(operation, lengths);
  ECHO_CHECK(cache.defined() && cache.rank() == 4 && is_float(cache.dtype()) && cache.dim(1) > 0 && cache.stride(3) == 1,
             operation, ": cache is ", cache, ", expected (B, S, Hkv, Dh) with adjacent elements");
  ECHO_CHECK(rows.defined() && (rows.shape() == Shape{cache.dim(0), 1, cache.dim(2), cache.dim(3)}) &&
                 rows.dtype() == cache.dtype() && rows.stride(3) == 1,
             operation, ": rows are ", rows, " for a cache ", cache);
  ECHO_CHECK(lengths.dim(0) == cache.dim(0) && lengths.device() == cache.device() && rows.device() == cache.device(), operation,
             ": lengths ", lengths, " on ", lengths.device(), ", rows on ", rows.device(), ", cache ", cache, " on ",
             cache.device());
  if (cache.device().is_cpu())
    for (int64_t b = 0; b < cache.dim(0); ++b) {
      const int64_t length = lengths.data<int32_t>()[b];
      ECHO_CHECK(length >= 1 && length <= cache.dim(1), operation, ": length ", length, " in a cache of ", cache.dim(1));
    }
}

}  // namespace

void extend_lengths(Tensor& lengths, int64_t capacity) {
  check_lengths("extend_lengths", lengths);
  ECHO_DISPATCH_DEVICE(lengths, extend_lengths, lengths, capacity);
}

void append_to_cache(Tensor& cache, const Tensor& rows, const Tensor& lengths) {
  check_rows("append_to_cache", cache, rows, lengths);
  ECHO_DISPATCH_DEVICE(cache, append_to_cache, cache, rows, lengths);
}

void rotate_and_append(Tensor& q, Tensor& k_cache, Tensor& v_cache, const Tensor& k, const Tensor& v, const RopeTable& table,
                       const Tensor& lengths) {
  check_rows("rotate_and_append", k_cache, k, lengths);
  check_rows("rotate_and_append", v_cache, v, lengths);
  ECHO_CHECK(k_cache.shape() == v_cache.shape() && k_cache.dtype() == v_cache.dtype() && k_cache.device() == v_cache.device(),
             "rotate_and_append: caches ", k_cache, " and ", v_cache);
  ECHO_CHECK(q.defined() && q.rank() == 4 && (q.shape() == Shape{k.dim(0), 1, q.dim(2), k.dim(3)}) && q.dtype() == k.dtype() &&
                 q.device() == k.device() && q.stride(3) == 1 && q.dim(3) % 2 == 0,
             "rotate_and_append: q is ", q, " for k ", k);
  const Shape least{k_cache.dim(1), k.dim(3) / 2};
  for (const Tensor* part : {&table.cosine, &table.sine})
    ECHO_CHECK(part->defined() && part->rank() == 2 && part->dim(0) >= least[0] && part->dim(1) == least[1] &&
                   part->is_contiguous() && part->dtype() == accumulator_dtype(q.dtype()) && part->device() == q.device(),
               "rotate_and_append: the table is ", *part, " for a cache ", k_cache);
  ECHO_DISPATCH_DEVICE(q, rotate_and_append, q, k_cache, v_cache, k, v, table, lengths);
}

namespace cpu {

void extend_lengths(Tensor& lengths, int64_t capacity) {
  int32_t* const length = lengths.data<int32_t>();
  for (int64_t b = 0; b < lengths.dim(0); ++b) length[b] = std::min(length[b] + 1, int32_t(capacity));
}

void append_to_cache(Tensor& cache, const Tensor& rows, const Tensor& lengths) {
  for (int64_t b = 0; b < cache.dim(0); ++b)
    cache.narrow(0, b, 1).narrow(1, lengths.data<int32_t>()[b] - 1, 1).copy_from(rows.narrow(0, b, 1));
}

void rotate_and_append(Tensor& q, Tensor& k_cache, Tensor& v_cache, const Tensor& k, const Tensor& v, const RopeTable& table,
                       const Tensor& lengths) {
  for (int64_t b = 0; b < q.dim(0); ++b) {
    const int64_t position = lengths.data<int32_t>()[b] - 1;
    Tensor queries = q.narrow(0, b, 1), keys = k_cache.narrow(0, b, 1).narrow(1, position, 1);
    kernels::rope(queries, queries, table, position, RopeDirection::forward);
    kernels::rope(keys, k.narrow(0, b, 1), table, position, RopeDirection::forward);
  }
  append_to_cache(v_cache, v, lengths);
}

}  // namespace cpu
}  // namespace echo::kernels
