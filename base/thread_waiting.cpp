#include "base/thread_waiting.h"

#include <unistd.h>

#include <cstdlib>

namespace echo {

void shorten_thread_waiting(char** argv) {
  constexpr const char* kVariable = "GOMP_SPINCOUNT";
  if (std::getenv(kVariable) != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  // Iterations of the waiting loop, which take some microseconds. Measured: 96 % of the default's speed on an idle machine and
  // 1.5 times the default's speed on a busy one.
  if (setenv(kVariable, "1000", /*overwrite=*/1) == 0) execv("/proc/self/exe", argv);
  unsetenv(kVariable);
}

}  // namespace echo
