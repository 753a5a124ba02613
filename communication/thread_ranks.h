#pragma once

#include <functional>
#include <memory>

#include "communication/communicator.h"

namespace echo {

// Runs `body` once for each of `world` ranks, each in a thread of its own, and waits for all of them. For tests: the ranks of
// one process behave like processes. When one rank throws, the others throw in their next exchange, and the first exception is
// thrown here.
void run_thread_ranks(int64_t world, const std::function<void(const std::shared_ptr<Communicator>&)>& body);

}  // namespace echo
