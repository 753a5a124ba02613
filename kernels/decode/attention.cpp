#include "kernels/decode/attention.h"

#include "kernels/attention/cpu_tile.h"
#include "kernels/dispatch.h"

namespace echo::kernels {
namespace {

void check_decode(const char* operation, const Tensor& o, const Tensor& probabilities, const Tensor& v_cache,
                  const Tensor& lengths) {
  ECHO_CHECK(o.defined() && o.rank() == 3 && is_float(o.dtype()) && o.elements() > 0, operation, ": o must be (B, H, Dh), got ",
             o);
  ECHO_CHECK(v_cache.defined() && v_cache.rank() == 4 && v_cache.dtype() == o.dtype() && v_cache.device() == o.device() &&
                 v_cache.dim(0) == o.dim(0) && v_cache.dim(1) > 0 && v_cache.dim(3) == o.dim(2) && v_cache.dim(2) > 0 &&
                 o.dim(1) % v_cache.dim(2) == 0,
             operation, ": o and v_cache do not fit: ", o, ", ", v_cache);
  const Shape shape{o.dim(0), o.dim(1), v_cache.dim(1)};
  if (probabilities.defined())
    ECHO_CHECK(probabilities.shape() == shape && probabilities.dtype() == accumulator_dtype(o.dtype()) &&
                   probabilities.is_contiguous() && probabilities.device() == o.device(),
               operation, ": probabilities must be contiguous ", accumulator_dtype(o.dtype()), " ", shape, ", got ",
               probabilities);
  ECHO_CHECK(o.stride(-1) == 1 && v_cache.stride(-1) == 1, operation, ": the last dimensions must have stride 1");
  ECHO_CHECK(lengths.defined() && (lengths.shape() == Shape{o.dim(0)}) && lengths.dtype() == DType::i32 &&
                 lengths.is_contiguous() && lengths.device() == o.device(),
             operation, ": lengths must be contiguous i32 (", o.dim(0), ") on ", o.device(), ", got ", lengths);
  if (o.device().is_cpu())
    for (int64_t b = 0; b < o.dim(0); ++b) {
      const int64_t length = lengths.data<int32_t>()[b];
      ECHO_CHECK(length >= 1 && length <= v_cache.dim(1), operation, ": length ", length, " in a cache of ", v_cache.dim(1));
    }
}

}  // namespace

void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, double scale) {
  check_decode("attention_decode", o, probabilities, v_cache, lengths);
  ECHO_CHECK(q.defined() && q.shape() == o.shape() && q.dtype() == o.dtype() && q.device() == o.device() && q.stride(-1) == 1,
             "attention_decode: q and o differ: ", q, ", ", o);
  ECHO_CHECK(k_cache.defined() && k_cache.shape() == v_cache.shape() && k_cache.dtype() == o.dtype() &&
                 k_cache.device() == o.device() && k_cache.stride(-1) == 1,
             "attention_decode: k_cache and v_cache differ: ", k_cache, ", ", v_cache);
  ECHO_DISPATCH_DEVICE(o, attention_decode, o, probabilities, q, k_cache, v_cache, lengths, scale);
}

void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, const Tensor& lengths) {
  ECHO_CHECK(probabilities.defined(), "shared_attention_decode: no probabilities");
  check_decode("shared_attention_decode", o, probabilities, v_cache, lengths);
  ECHO_DISPATCH_DEVICE(o, shared_attention_decode, o, probabilities, v_cache, lengths);
}

namespace cpu {
namespace {

// The scores of one query against all keys of one head, times scale * log2 e, and their softmax.
template <class T>
void decode_probabilities(accumulator<T>* p, const T* q, const T* keys, int64_t key_stride, int64_t length, int64_t width,
                          accumulator<T> factor) {
  using A = accumulator<T>;
  A highest = 0;
  for (int64_t s = 0; s < length; ++s) {
    const T* const key = keys + s * key_stride;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < width; ++d) sum += A(q[d]) * A(key[d]);
    p[s] = sum * factor;
    highest = s == 0 ? p[0] : std::max(highest, p[s]);
  }
  Vector<A> sums{};
  A rest = 0;
  int64_t s = 0;
  for (; s + kLanes<A> <= length; s += kLanes<A>) {
    const Vector<A> value = exp2_of_nonpositive<A>(load(p + s) - highest);
    sums += value;
    store<A>(p + s, value);
  }
  for (; s < length; ++s) rest += p[s] = exp2_of_nonpositive<A>(broadcast(p[s] - highest))[0];
  const A inverse = A(1) / (sum_of_lanes<A>(sums) + rest);
#pragma omp simd
  for (s = 0; s < length; ++s) p[s] *= inverse;
}

template <class T>
void decode_values(T* o, accumulator<T>* sums, const accumulator<T>* p, const T* values, int64_t value_stride, int64_t length,
                   int64_t width) {
  using A = accumulator<T>;
  std::fill(sums, sums + width, A(0));
  for (int64_t s = 0; s < length; ++s) {
    const T* const value = values + s * value_stride;
    const A weight = p[s];
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) sums[d] += weight * A(value[d]);
  }
#pragma omp simd
  for (int64_t d = 0; d < width; ++d) o[d] = T(sums[d]);
}

// A task is one group of query heads, which read the same keys and values.
template <class T, bool kLeader>
void decode(Tensor& o, const Tensor& probabilities, const Tensor* q, const Tensor* k_cache, const Tensor& v_cache,
            const Tensor& lengths, double scale) {
  using A = accumulator<T>;
  const HeadRows<T> values(v_cache), keys(kLeader ? *k_cache : v_cache);
  const int64_t heads = o.dim(1), width = o.dim(2), capacity = v_cache.dim(1), key_heads = v_cache.dim(2),
                group = heads / key_heads;
  const ThreadBuffers<A> buffers(width);
#pragma omp parallel for schedule(dynamic, 1) if (capacity * heads > 64)
  for (int64_t task = 0; task < o.dim(0) * key_heads; ++task) {
    const int64_t batch = task / key_heads, key_head = task % key_heads, length = lengths.data<int32_t>()[batch];
    for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
      A* const p = probabilities.data<A>() + (batch * heads + head) * capacity;
      if constexpr (kLeader)
        decode_probabilities<T>(p, q->data<T>() + batch * q->stride(0) + head * q->stride(1), keys.row(batch, 0, key_head),
                                keys.position_stride, length, width, A(scale) * kLog2OfE<A>);
      decode_values<T>(o.data<T>() + batch * o.stride(0) + head * o.stride(1), buffers.mine(), p,
                       values.row(batch, 0, key_head), values.position_stride, length, width);
    }
  }
}

}  // namespace

void attention_decode(Tensor& o, Tensor& probabilities, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, double scale) {
  const Tensor rows = probabilities.defined()
                          ? probabilities
                          : Tensor::empty({o.dim(0), o.dim(1), v_cache.dim(1)}, accumulator_dtype(o.dtype()));
  dispatch_float(o.dtype(), [&]<class T>() { decode<T, true>(o, rows, &q, &k_cache, v_cache, lengths, scale); });
}

void shared_attention_decode(Tensor& o, const Tensor& probabilities, const Tensor& v_cache, const Tensor& lengths) {
  dispatch_float(o.dtype(), [&]<class T>() { decode<T, false>(o, probabilities, nullptr, nullptr, v_cache, lengths, 0); });
}

}  // namespace cpu
}  // namespace echo::kernels
