#include "hub/retry.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

TEST(PatienceTest, PausesDoubleUpToEightSecondsAndDependOnTheAddressAlone) {
  const Patience patience("hf://org/name/file", {}), same("hf://org/name/file", {}), other("hf://org/name/other", {});
  double middle = 0.5;
  for (int failure = 1; failure <= 7; ++failure) {
    EXPECT_GE(patience.pause_after(failure), 0.75 * middle);
    EXPECT_LE(patience.pause_after(failure), 1.25 * middle);
    EXPECT_EQ(patience.pause_after(failure), same.pause_after(failure));
    EXPECT_NE(patience.pause_after(failure), other.pause_after(failure));
    middle = std::min(8.0, 2 * middle);
  }
}

TEST(PatienceTest, TheLastAttemptEndsItWithTheCause) {
  Patience patience("hf://org/name/file", {}, 2);
  patience.failed(TemporaryFailure("the hub answers 503"));
  const std::string message = error_message(ExitCode::unavailable, [&] { patience.failed(TemporaryFailure("reset")); });
  expect_contains(message, "hf://org/name/file: reset (given up after 2 attempts)");
}

TEST(PatienceTest, ProgressStartsTheCountAgainAndARateLimitIsNoFailure) {
  Patience patience("hf://org/name/file", {}, 2);
  patience.failed(TemporaryFailure("reset"));
  patience.progressed();
  patience.failed(TemporaryFailure("reset"));
  patience.failed(TemporaryFailure("429", 0.0, true));  // waits for one second
}

TEST(PatienceTest, ALimitThatLastsTooLongIsNotWaitedFor) {
  Patience patience("hf://org/name/file", {});
  error_message(ExitCode::unavailable, [&] { patience.failed(TemporaryFailure("429", 3600.0, true)); });
}

}  // namespace
}  // namespace echo
