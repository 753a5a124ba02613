// A process dies at a named operation on a file. The run continues from what is on the disk, with the same bits.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <regex>
#include <set>

#include "base/file.h"
#include "tests/faults/fault_run.h"
#include "tests/faults/file_calls.h"

namespace echo {
namespace {

using Points = std::map<std::string, int>;  // name of an operation, and how often a run comes to it

// "write checkpoint-N.tmp-N/model.safetensors"
std::string name_of_point(const FileCall& call, const fs::path& output) {
  const std::string path = call.path == output ? "." : fs::path(call.path.lexically_relative(output)).string();
  return std::string(name_of(call.kind)) + " " + std::regex_replace(path, std::regex("[0-9]+"), "N");
}

Points points_of(const TrainConfig& config) {
  Points points;
  const FileCallWatch watch(config.output_dir, [&](const FileCall& call) {
    ++points[name_of_point(call, config.output_dir)];
    return FileCallResult{};
  });
  run_to_end(config);
  return points;
}

// Continues the run in a process that dies when it comes to `point` for the n-th time.
void die_at(const TrainConfig& config, const std::string& point, int n) {
  const int end = in_child([&] {
    int left = n;
    const FileCallWatch watch(config.output_dir, [&](const FileCall& call) {
      if (name_of_point(call, config.output_dir) == point && --left == 0) ::kill(::getpid(), SIGKILL);
      return FileCallResult{};
    });
    run_to_end(config);
  });
  EXPECT_EQ(end, -SIGKILL) << point << ", time " << n;
}

class FailpointTest : public testing::TestWithParam<settings::Choice> {
 protected:
  TrainConfig config(const std::string& name) const { return run_with_saves(folder_ / name, GetParam()); }
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
  const Points points = points_of(config("whole"));
  EXPECT_GE(points.size(), 24u);
  for (const auto& [point, times] : points) {
    // In the middle, where there are older checkpoints, and steps are to come.
    fs::remove_all(folder_ / "killed");
    die_at(config("killed"), point, (times + 1) / 2);
    expect_same_end(point);
  }
}

// The first death leaves a checkpoint, an unfinished folder and lines of the log that are too new.
TEST_P(FailpointTest, ARunThatDiesAgainWhileItResumesContinuesWithTheSameBits) {
  const auto die_in_second_save = [&](const std::string& name) {
    die_at(config(name), "sync checkpoint-N.tmp-N/optimizer.safetensors", 2);
  };
  die_in_second_save("whole");
  const Points points = points_of(config("whole"));
  std::set<std::string> of_resuming;
  for (const auto& [point, times] : points)
    if (point.starts_with("read") || point.starts_with("remove checkpoint-N.tmp-N") || point.find("trainer_log") != std::string::npos) of_resuming.insert(point);
  EXPECT_GE(of_resuming.size(), 8u);
  for (const std::string& point : of_resuming) {
    fs::remove_all(folder_ / "killed");
    die_in_second_save("killed");
    die_at(config("killed"), point, 1);
    expect_same_end(point);
  }
}

INSTANTIATE_TEST_SUITE_P(Saves, FailpointTest, testing::Values(settings::Choice::no, settings::Choice::yes),
                         [](const auto& saves) { return saves.param == settings::Choice::yes ? "Background" : "Waiting"; });

}  // namespace
}  // namespace echo
