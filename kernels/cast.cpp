#include "kernels/cast.h"

#include <cstring>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

// Every pair of dtypes converts directly, except that f64 to bf16 goes through f32.
template <class To, class From>
void convert(To* to, const From* from, int64_t count) {
#pragma omp parallel for simd schedule(static) if (count > kSerialElements)
  for (int64_t i = 0; i < count; ++i) assign(to[i], static_cast<accumulator<To>>(static_cast<accumulator<From>>(from[i])));
}

}  // namespace

void cast(Tensor& destination, const Tensor& source) {
  const int64_t count = source.elements();
  if (count == 0) return;
  if (destination.dtype() == source.dtype()) {
    std::memmove(destination.raw_data(), source.raw_data(), size_t(source.bytes()));
    return;
  }
  dispatch_float(destination.dtype(), [&]<class To>() {
    dispatch_float(source.dtype(), [&]<class From>() { convert(destination.data<To>(), source.data<From>(), count); });
  });
}

}  // namespace cpu

void cast(Tensor& destination, const Tensor& source) {
  check_operands("cast", source.shape(), {&source, &destination});
  ECHO_CHECK(is_float(source.dtype()) && is_float(destination.dtype()), "cast: ", source.dtype(), " to ", destination.dtype(),
             ", expected floating dtypes");
  ECHO_DISPATCH_DEVICE(source, cast, destination, source);
}

Tensor cast(const Tensor& source, DType dtype) {
  if (source.dtype() == dtype) return source;
  Tensor result = Tensor::empty(source.shape(), dtype, source.device());
  cast(result, source.contiguous());
  return result;
}

}  // namespace echo::kernels
