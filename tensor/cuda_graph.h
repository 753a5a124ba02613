#pragma once

#include <functional>

namespace echo::cuda {

// Work on the device that is asked for again and again with the same kernels, sizes and addresses: recorded once, then started by one call
// instead of one for each kernel.
class RecordedWork {
 public:
  // Records what `work` asks the device for, without doing it. What `work` does on the host happens once, now. It must not wait for the
  // device, and tensors that it makes must not outlive it.
  explicit RecordedWork(const std::function<void()>& work);
  ~RecordedWork();
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;

  void run();

 private:
  void* executable_ = nullptr;
};

}  // namespace echo::cuda
