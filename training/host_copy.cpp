#include "training/host_copy.h"

#include <algorithm>
#include <cstring>

#include "tensor/allocator.h"
#include "tensor/cuda_memory.h"

namespace echo {
namespace {

constexpr int64_t kPiece = 1 << 22;        // bytes that a thread copies at a time
constexpr int64_t kLeastLocked = 1 << 21;  // smaller blocks of memory share pages with others

std::shared_ptr<void> locked_pages(const Tensor& tensor) {
  if constexpr (kWithCuda) {
    if (tensor.bytes() >= kLeastLocked && cuda::lock_pages(tensor.raw_data(), tensor.bytes()))
      return {tensor.raw_data(), [](void* locked) { cuda::unlock_pages(locked); }};
  }
  return nullptr;
}

// Tensors in main memory are copied by all threads. One thread would not use all of its bandwidth.
void copy_with_all_threads(Tensor& target, const Tensor& source) {
  if (!source.device().is_cpu() || !source.is_contiguous()) return target.copy_from(source);
  auto* const to = static_cast<std::byte*>(target.raw_data());
  const auto* const from = static_cast<const std::byte*>(source.raw_data());
#pragma omp parallel for schedule(dynamic) if (source.bytes() > kPiece)
  for (int64_t done = 0; done < source.bytes(); done += kPiece)
    std::memcpy(to + done, from + done, size_t(std::min(kPiece, source.bytes() - done)));
}

}  // namespace

const NamedTensors& HostCopy::renew(const std::vector<TensorDescription>& tensors, const TensorProvider& provider) {
  const MemoryLabel label("copy for saving");
  page_locks_.resize(tensors.size());  // before the memory goes
  copies_.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorDescription& description = tensors[i];
    auto& [name, tensor] = copies_[i];
    name = description.name;
    const Tensor source = provider(description);
    if (!tensor.defined() || tensor.shape() != description.shape || tensor.dtype() != description.dtype) {
      page_locks_[i] = nullptr;
      tensor = Tensor::empty(description.shape, description.dtype);
      if (!source.device().is_cpu()) page_locks_[i] = locked_pages(tensor);
    }
    copy_with_all_threads(tensor, source);
  }
  return copies_;
}

}  // namespace echo
