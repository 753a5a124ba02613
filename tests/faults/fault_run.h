#pragma once

#include <functional>

#include "config/train_config.h"
#include "tests/training/tiny_run.h"

namespace echo {

// Continues the run of a configuration in this process, or begins it, as ./train does.
void run_to_end(const TrainConfig& config);

// 8 steps with a checkpoint after every second one, the newest of which stays.
TrainConfig run_with_saves(const std::filesystem::path& output_dir, settings::Choice async_save);

// Runs `body` in a child process. Returns the signal that ended it, as a negative number, or 0. An exception of `body` is
// returned as the exit code of its Error.
int in_child(const std::function<void()>& body);

}  // namespace echo
