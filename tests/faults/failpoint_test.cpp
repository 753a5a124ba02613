// A process dies at a named operation on a file. The run continues from what is on the disk, with the same bits.
#include <gtest/gtest.h>

#include <set>

#include "base/file.h"
#include "tests/faults/failpoints.h"
#include "tests/faults/fault_run.h"

namespace echo {
namespace {

class FailpointTest : public testing::TestWithParam<settings::Choice> {
 protected:
  TrainConfig config(const std::string& name) const { return run_with_saves(folder_ / name, GetParam()); }
  Points points() const {
    return points_of(folder_ / "whole", [&] { run_to_end(config("whole")); });
  }
  void die_at(const std::string& name, const std::string& point, int n) const {
    echo::die_at(folder_ / name, point, n, [&] { run_to_end(config(name)); });
  }
  void expect_same_end(const std::string& where) {
    run_to_end(config("killed"));
    EXPECT_EQ(differences(folder_ / "whole", folder_ / "killed"), std::vector<std::string>{}) << where;
    for (const auto& entry : fs::directory_iterator(folder_ / "killed"))
      EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << where << " left " << entry.path();
  }

  const std::unique_ptr<TemporaryFolder> memory_ = memory_folder();
  const TemporaryFolder& folder_ = *memory_;
};

TEST_P(FailpointTest, ARunThatDiesAtAnyOperationContinuesWithTheSameBits) {
  const Points found = points();
  EXPECT_GE(found.size(), 24u);
  for (const auto& [point, times] : found) {
    // What is not saved in the background is the same.
    if (GetParam() == settings::Choice::yes && point.find("checkpoint-") == std::string::npos) continue;
    // In the middle, where there are older checkpoints, and steps are to come.
    fs::remove_all(folder_ / "killed");
    die_at("killed", point, (times + 1) / 2);
    expect_same_end(point);
  }
}

// The first death leaves a checkpoint, an unfinished folder and lines of the log that are too new.
TEST_P(FailpointTest, AllSavesHaveTheBitsOfSavesThatWait) {
  TrainConfig waiting = run_with_saves(folder_ / "waiting", settings::Choice::no), other = config("other");
  waiting.save_total_limit = other.save_total_limit = 0;
  run_to_end(waiting);
  run_to_end(other);
  EXPECT_TRUE(fs::exists(folder_ / "other/checkpoint-2"));
  EXPECT_EQ(differences(folder_ / "waiting", folder_ / "other"), std::vector<std::string>{});
}

using ResumeFailpointTest = FailpointTest;
TEST_P(ResumeFailpointTest, ARunThatDiesAgainWhileItResumesContinuesWithTheSameBits) {
  const auto die_in_second_save = [&](const std::string& name) {
    die_at(name, "sync checkpoint-N.tmp-N/optimizer.safetensors", 2);
  };
  die_in_second_save("whole");
  std::set<std::string> of_resuming;
  for (const auto& [point, times] : points())
    if (point.starts_with("read") || point.starts_with("remove checkpoint-N.tmp-N") ||
        point.find("trainer_log") != std::string::npos)
      of_resuming.insert(point);
  EXPECT_GE(of_resuming.size(), 8u);
  for (const std::string& point : of_resuming) {
    fs::remove_all(folder_ / "killed");
    die_in_second_save("killed");
    die_at("killed", point, 1);
    expect_same_end(point);
  }
}

std::string name_of_choice(const testing::TestParamInfo<settings::Choice>& saves) {
  return saves.param == settings::Choice::yes ? "Background" : "Waiting";
}
INSTANTIATE_TEST_SUITE_P(Saves, FailpointTest, testing::Values(settings::Choice::no, settings::Choice::yes), name_of_choice);
INSTANTIATE_TEST_SUITE_P(Saves, ResumeFailpointTest, testing::Values(settings::Choice::no), name_of_choice);

}  // namespace
}  // namespace echo
