#pragma once

#include <functional>

namespace echo::cuda {

// Work on the device that is asked for again and again with the same kernels, sizes and addresses: recorded once, then started
// by one call instead of one for each kernel.
struct RecordedWork;

// Records what `work` asks the device for, without doing it. What `work` does on the host happens once, now. It must not wait
// for the device nor read the host's tensors, and tensors that it makes must not outlive it: all three throw. The result is the
// caller's to drop.
RecordedWork* record_work(const std::function<void()>& work);
void run_recorded(RecordedWork* recorded);
void drop_recorded(RecordedWork* recorded) noexcept;  // null: nothing

}  // namespace echo::cuda
