#pragma once

#include <functional>
#include <memory>

#include "tensor/device.h"

namespace echo::cuda {

// Work on the device that is asked for again and again with the same kernels, sizes and addresses: recorded once, then started
// by one call instead of one for each kernel.
struct RecordedWork;

// Waits until the work no longer runs, then frees it and the memory of its tensors.
void drop_recorded(RecordedWork* recorded) noexcept;

// Calls what record_work() left here, so that code which is compiled without CUDA links.
struct DropRecordedWork {
  void (*drop)(RecordedWork*) noexcept = nullptr;
  void operator()(RecordedWork* recorded) const noexcept { drop(recorded); }
};
using RecordedWorkPointer = std::unique_ptr<RecordedWork, DropRecordedWork>;

// Records what `work` asks the device for, without doing it. What `work` does on the host happens once, now. It must not wait
// for the device nor read the host's tensors, and tensors that it makes must not outlive it: all three throw.
RecordedWorkPointer record_work(const std::function<void()>& work);
void run_recorded(RecordedWork& recorded);

}  // namespace echo::cuda
