#include "communication/agreement.h"

#include <gtest/gtest.h>

#include "communication/thread_ranks.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(AgreementTest, EqualFactsAreAccepted) {
  run_thread_ranks(3, [](const std::shared_ptr<Communicator>& ranks) {
    check_ranks_agree(*ranks, {{"seed", "1"}, {"the program", ""}});
    check_ranks_agree(*ranks, {});
  });
}

TEST(AgreementTest, WhatDiffersIsNamedWithItsRanksOnAllRanks) {
  run_thread_ranks(4, [](const std::shared_ptr<Communicator>& ranks) {
    Facts facts = {{"seed", "1"}, {"learning_rate", ranks->rank() == 2 ? "0.5" : "0.1"}, {"the data", "same"}};
    if (ranks->is_first()) facts["threads"] = "2";
    const std::string message = error_message(ExitCode::config, [&] { check_ranks_agree(*ranks, facts); });
    expect_contains(message, "learning_rate is 0.1 on process(es) 0, 1, 3 and 0.5 on process(es) 2");
    expect_contains(message, "threads is 2 on process(es) 0 and absent on process(es) 1, 2, 3");
    EXPECT_EQ(message.find("seed"), std::string::npos) << message;
    EXPECT_EQ(message.find("the data"), std::string::npos) << message;
  });
}

}  // namespace
}  // namespace echo
