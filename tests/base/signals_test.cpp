#include "base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace echo {
namespace {

TEST(StopOnSignalTest, ASignalOnlySetsTheFlag) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const StopOnSignal stop;
    EXPECT_FALSE(stop.requested());
    ::raise(signal);
    EXPECT_TRUE(stop.requested());
  }
}

// On the stack of a thread that multiplies with oneDNN the frame of a handler overwrites the heap.
TEST(StopOnSignalTest, TheHandlerRunsOnAStackOfItsOwn) {
  const StopOnSignal stop;
  for (const int signal : {SIGTERM, SIGINT}) {
    struct sigaction action {};
    ::sigaction(signal, nullptr, &action);
    EXPECT_TRUE(action.sa_flags & SA_ONSTACK);
  }
  stack_t stack{};
  ::sigaltstack(nullptr, &stack);
  EXPECT_FALSE(stack.ss_flags & SS_DISABLE);
  EXPECT_GE(stack.ss_size, size_t{1} << 16);
}

}  // namespace
}  // namespace echo
