#pragma once

#include <functional>
#include <memory>

#include "tensor/device.h"

namespace echo::cuda {

// Work on the device that is repeated with the same kernels, sizes and addresses. It is recorded once, as a CUDA graph. Then
// one call starts it, instead of one call per kernel.
struct RecordedWork;

// Waits until the work has finished, then frees it and the memory of its tensors.
void drop_recorded(RecordedWork* recorded) noexcept;

// Calls through a pointer that record_work() sets, so that code compiled without CUDA links.
struct DropRecordedWork {
  void (*drop)(RecordedWork*) noexcept = nullptr;
  void operator()(RecordedWork* recorded) const noexcept { drop(recorded); }
};
using RecordedWorkPointer = std::unique_ptr<RecordedWork, DropRecordedWork>;

// Records the device operations of `work` without running them. Host code in `work` runs once, now. Throws Error when `work`
// waits for the device, when it reads host tensors, or when a tensor that it makes outlives it.
RecordedWorkPointer record_work(const std::function<void()>& work);
void run_recorded(RecordedWork& recorded);

}  // namespace echo::cuda
