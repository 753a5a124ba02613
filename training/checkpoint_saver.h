#pragma once

#include <functional>
#include <future>

#include "training/host_copy.h"
#include "training/training_checkpoint.h"

namespace echo {

// Saves the checkpoints of a run one after another. In the background, training waits only while weights and moments are
// copied. A thread then writes the copy. The files are the same bit for bit. An Error of the thread is thrown by the next call,
// and then older checkpoints are not affected. The destructor waits for the save in progress.
class CheckpointSaver {
 public:
  struct Settings {
    std::filesystem::path output_dir;
    std::filesystem::path log;  // made durable before each checkpoint, which continues it
    int64_t keep = 0;           // as in save_checkpoint()
    bool in_background = false;
  };
  struct Saved {
    std::filesystem::path folder;
    double waited = 0;   // seconds that save() took, during which the run did not go on
    double written = 0;  // seconds from the call of save() until the checkpoint was on the disk
  };
  // `report` is called for every checkpoint when it is on the disk, by the thread that calls one of the functions below.
  CheckpointSaver(Settings settings, std::function<void(const Saved&)> report);

  // Waits for the save in progress. Then saves, or copies the tensors of `content` and starts to save. Throws Error (io; device
  // when there is no memory for the copy).
  void save(const CheckpointContent& content);
  // Reports a save that has ended. Does not wait.
  void report_finished();
  // Waits for the save in progress.
  void wait();

 private:
  Settings settings_;
  std::function<void(const Saved&)> report_;
  HostCopy weights_, moments_;
  CheckpointContent content_;  // what the thread writes
  std::future<Saved> writing_;
};

}  // namespace echo
