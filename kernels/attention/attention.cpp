#include "kernels/attention/attention.h"

#include "kernels/attention/cpu_tile.h"
#include "kernels/dispatch.h"

namespace echo::kernels {
namespace {

// Compares the tensors of an attention call with the shapes of the queries (B, T, H, Dh) and of the keys (B, T, Hkv, Dh).
class Checks {
 public:
  Checks(const char* operation, const Tensor& q, const Tensor& k) : operation_(operation), q_(q), k_(k) {
    ECHO_CHECK(q.defined() && q.rank() == 4 && is_float(q.dtype()), operation,
               ": q must be (B, T, H, Dh) of a floating dtype, got ", q);
    ECHO_CHECK(k.defined() && k.rank() == 4, operation, ": k must be (B, T, Hkv, Dh), got ", k);
    ECHO_CHECK(q.elements() > 0, operation, ": q is empty: ", q.shape());
    ECHO_CHECK(k.dim(0) == q.dim(0) && k.dim(1) == q.dim(1) && k.dim(3) == q.dim(3), operation, ": q and k differ: ", q.shape(),
               ", ", k.shape());
    ECHO_CHECK(k.dim(2) > 0 && q.dim(2) % k.dim(2) == 0, operation, ": ", q.dim(2), " heads are not a multiple of ", k.dim(2),
               " key heads");
    same_kind("q", q);
    same_kind("k", k);
  }
  void like_queries(const char* name, const Tensor& tensor) const { like(name, tensor, q_.shape()); }
  void like_keys(const char* name, const Tensor& tensor) const { like(name, tensor, k_.shape()); }
  void statistics(const char* name, const Tensor& tensor) const {
    const Shape shape{q_.dim(0), q_.dim(2), q_.dim(1)};
    ECHO_CHECK(tensor.defined() && tensor.shape() == shape && tensor.dtype() == accumulator_dtype(q_.dtype()) &&
                   tensor.is_contiguous() && tensor.device() == q_.device(),
               operation_, ": ", name, " must be contiguous ", accumulator_dtype(q_.dtype()), " ", shape, ", got ", tensor);
  }
  void first_key(const Tensor& tensor) const {
    if (!tensor.defined()) return;
    const Shape shape{q_.dim(0), q_.dim(1)};
    ECHO_CHECK(
        tensor.shape() == shape && tensor.dtype() == DType::i32 && tensor.is_contiguous() && tensor.device() == q_.device(),
        operation_, ": first_key must be contiguous i32 ", shape, ", got ", tensor);
    if (!tensor.device().is_cpu()) return;
    const int32_t* first = tensor.data<int32_t>();
    for (int64_t i = 0; i < tensor.elements(); ++i)
      ECHO_CHECK(first[i] >= 0 && first[i] <= i % shape[1], operation_, ": first_key of position ", i % shape[1], " is ",
                 first[i]);
  }

 private:
  void same_kind(const char* name, const Tensor& tensor) const {
    ECHO_CHECK(tensor.dtype() == q_.dtype() && tensor.device() == q_.device(), operation_, ": ", name, " must be ", q_.dtype(),
               " on ", q_.device(), ", got ", tensor);
    ECHO_CHECK(tensor.stride(-1) == 1 || tensor.dim(-1) == 1, operation_, ": the last dimension of ", name,
               " must have stride 1");
  }
  void like(const char* name, const Tensor& tensor, const Shape& shape) const {
    ECHO_CHECK(tensor.defined() && tensor.shape() == shape, operation_, ": ", name, " must be ", shape, ", got ", tensor);
    same_kind(name, tensor);
  }

  const char* operation_;
  const Tensor &q_, &k_;
};

}  // namespace

void attention_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first_key,
                       double scale) {
  const Checks checks("attention_forward", q, k);
  checks.like_queries("o", o);
  checks.like_keys("v", v);
  checks.statistics("lse", lse);
  checks.first_key(first_key);
  ECHO_DISPATCH_DEVICE(q, attention_forward, o, lse, q, k, v, first_key, scale);
}

void shared_attention_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& lse, const Tensor& v,
                              const Tensor& first_key, double scale) {
  const Checks checks("shared_attention_forward", q, k);
  checks.like_queries("o", o);
  checks.like_keys("v", v);
  checks.statistics("lse", lse);
  checks.first_key(first_key);
  ECHO_DISPATCH_DEVICE(q, shared_attention_forward, o, q, k, lse, v, first_key, scale);
}

void attention_delta(Tensor& delta, const Tensor& d_o, const Tensor& o) {
  const Checks checks("attention_delta", o, o);
  checks.like_queries("d_o", d_o);
  checks.statistics("delta", delta);
  ECHO_DISPATCH_DEVICE(o, attention_delta, delta, d_o, o);
}

void attention_value_backward(Tensor& dv, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& lse,
                              const Tensor& first_key, double scale) {
  const Checks checks("attention_value_backward", q, k);
  checks.like_keys("dv", dv);
  checks.like_queries("d_o", d_o);
  checks.statistics("lse", lse);
  checks.first_key(first_key);
  ECHO_DISPATCH_DEVICE(q, attention_value_backward, dv, d_o, q, k, lse, first_key, scale);
}

void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv_of_leader, std::span<const SharingLayer> layers, const Tensor& q,
                        const Tensor& k, const Tensor& lse, const Tensor& delta, const Tensor& first_key, double scale) {
  const Checks checks("attention_backward", q, k);
  checks.like_queries("dq", dq);
  checks.like_keys("dk", dk);
  if (dv_of_leader.defined()) checks.like_keys("dv_of_leader", dv_of_leader);
  ECHO_CHECK(!layers.empty(), "attention_backward: layers is empty, expected at least one layer");
  for (const SharingLayer& layer : layers) {
    checks.like_queries("d_o", layer.d_o);
    checks.like_keys("v", layer.v);
  }
  checks.statistics("lse", lse);
  checks.statistics("delta", delta);
  checks.first_key(first_key);
  ECHO_DISPATCH_DEVICE(q, attention_backward, dq, dk, dv_of_leader, layers, q, k, lse, delta, first_key, scale);
}

namespace cpu {
namespace {

template <class T>
void add_delta(Tensor& delta, const Tensor& d_o_tensor, const Tensor& o_tensor) {
  using A = accumulator<T>;
  const HeadRows<T> d_o(d_o_tensor), o(o_tensor);
  A* const result = delta.data<A>();
  const int64_t positions = o_tensor.dim(1), heads = o_tensor.dim(2), width = o_tensor.dim(3);
#pragma omp parallel for if (o_tensor.elements() > 65536)
  for (int64_t task = 0; task < o_tensor.dim(0) * positions; ++task) {
    const int64_t batch = task / positions, t = task % positions;
    for (int64_t head = 0; head < heads; ++head) {
      const T* const a = d_o.row(batch, t, head);
      const T* const b = o.row(batch, t, head);
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < width; ++d) sum += A(a[d]) * A(b[d]);
      result[(batch * heads + head) * positions + t] += sum;
    }
  }
}

}  // namespace

void attention_delta(Tensor& delta, const Tensor& d_o, const Tensor& o) {
  dispatch_float(o.dtype(), [&]<class T>() { add_delta<T>(delta, d_o, o); });
}

}  // namespace cpu
}  // namespace echo::kernels
