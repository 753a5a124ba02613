#include "communication/host_communicator.h"

#include <algorithm>

#include "base/error.h"

namespace echo {

RankSlice slice_of_rank(int64_t elements, int64_t rank, int64_t world) {
  const int64_t length = (elements + world - 1) / world;
  const int64_t begin = std::min(elements, rank * length);
  return {begin, std::min(length, elements - begin)};
}

void HostCommunicator::all_reduce_sum(Tensor& values) {
  ECHO_CHECK(values.defined() && values.is_contiguous() && (values.dtype() == DType::f32 || values.dtype() == DType::f64),
             "all_reduce_sum: ", values, ", expected contiguous f32 or f64");
  Tensor host = values.to(Device{});
  if (host.dtype() == DType::f32)
    sum(host.data<float>(), host.elements());
  else
    sum(host.data<double>(), host.elements());
  if (!values.device().is_cpu()) values.copy_from(host);
}

void HostCommunicator::broadcast(Tensor& values) {
  ECHO_CHECK(values.defined() && values.is_contiguous(), "broadcast: ", values, ", expected contiguous");
  Tensor host = values.to(Device{});
  copy_from_first(host.raw_data(), host.bytes());
  if (!values.device().is_cpu()) values.copy_from(host);
}

}  // namespace echo
