#pragma once

#include <functional>

namespace cuda_emulation {

// Runs `body` once for each of `world` ranks, each in a thread of its own with the emulated device. The device knows only one
// thread, so one rank runs at a time: it gives way to the next one when it waits for others (let_others_run), in the order of
// the ranks. So a run has the same course each time. Throws the first exception of a rank when all have ended.
void run_ranks(int world, const std::function<void(int rank)>& body);

}  // namespace cuda_emulation
