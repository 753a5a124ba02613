#include "kernels/attention/choice.h"

#include <cstdlib>

#include "tests/test_support.h"

namespace echo::kernels::cuda {
namespace {

TEST(AttentionChoiceTest, AnUnknownNameIsRefusedWithTheNamesThatThereAre) {
  EXPECT_EQ(attention_kernels_named("sm80"), AttentionKernels::sm80);
  EXPECT_EQ(error_message(ExitCode::config, [] { (void)attention_kernels_named("mma"); }),
            "ECHOATT_ATTENTION is mma, expected best, sm80, sm80_whole_heads or plain");
}

TEST(AttentionChoiceTest, AChoiceHoldsForItsScope) {
  const AttentionKernels before = attention_kernels();
  {
    const ScopedAttentionKernels plain(AttentionKernels::plain);
    EXPECT_EQ(attention_kernels(), AttentionKernels::plain);
  }
  EXPECT_EQ(attention_kernels(), before);
}

// This process has already made its choice, so the test runs in a process of its own.
TEST(AttentionChoiceDeathTest, TheEnvironmentIsReadAtTheFirstCallOnly) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto choose = [] {
    ::setenv("ECHOATT_ATTENTION", "sm80_whole_heads", 1);
    const AttentionKernels first = attention_kernels();
    ::setenv("ECHOATT_ATTENTION", "plain", 1);
    std::exit(first == AttentionKernels::sm80_whole_heads && attention_kernels() == first ? 0 : 1);
  };
  EXPECT_EXIT(choose(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace echo::kernels::cuda
