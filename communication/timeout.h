#pragma once

#include <chrono>

#include "base/error.h"

namespace echo {

// Throws Error (unavailable) when an exchange that began at `start` has taken longer than `seconds`; 0: no limit.
inline void check_timeout(std::chrono::steady_clock::time_point start, double seconds) {
  if (seconds > 0 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > seconds)
    fail(ExitCode::unavailable, "another process did not answer for ", seconds,
         " s (comm_timeout); it hangs or its machine is gone");
}

}  // namespace echo
