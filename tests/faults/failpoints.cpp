#include "tests/faults/failpoints.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <regex>

#include "tests/faults/fault_run.h"
#include "tests/faults/file_calls.h"

namespace echo {
namespace {

std::string name_of_point(const FileCall& call, const std::filesystem::path& folder) {
  static const std::regex kHash("[0-9a-f]{32,}"), kNumber("[0-9]+");
  const std::string path = call.path.lexically_relative(folder).string();
  return std::string(name_of(call.kind)) + " " + std::regex_replace(std::regex_replace(path, kHash, "H"), kNumber, "N");
}

}  // namespace

Points points_of(const std::filesystem::path& folder, const std::function<void()>& body) {
  Points points;
  const FileCallWatch watch(folder, [&](const FileCall& call) {
    ++points[name_of_point(call, folder)];
    return FileCallResult{};
  });
  body();
  return points;
}

void die_at(const std::filesystem::path& folder, const std::string& point, int n, const std::function<void()>& body) {
  const int end = in_child([&] {
    int left = n;
    const FileCallWatch watch(folder, [&](const FileCall& call) {
      if (name_of_point(call, folder) == point && --left == 0) ::kill(::getpid(), SIGKILL);
      return FileCallResult{};
    });
    body();
  });
  EXPECT_EQ(end, -SIGKILL) << point << ", time " << n;
}

}  // namespace echo
