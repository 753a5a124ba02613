#include "base/program.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <new>
#include <stdexcept>

#include "base/error.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Runs a program with this `body`. Returns its status and what it wrote to stderr.
std::pair<int, std::string> run(const std::function<int()>& body) {
  testing::internal::CaptureStderr();
  const int status = run_program(body);
  return {status, testing::internal::GetCapturedStderr()};
}

std::pair<int, std::string> run_with(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "program");
  CLI::App app("about");
  int count = 0;
  app.add_option("--count", count)->required();
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  const int status = run_program(app, int(arguments.size()), arguments.data(), [&] { return count; });
  return {status, testing::internal::GetCapturedStdout() + "|" + testing::internal::GetCapturedStderr()};
}

TEST(ProgramTest, EveryExceptionBecomesOneLineAndItsCode) {
  EXPECT_EQ(run([] { return 3; }), std::make_pair(3, std::string()));
  EXPECT_EQ(run([]() -> int { fail(ExitCode::bad_data, "a.json: is empty"); }),
            std::make_pair(65, std::string("error: a.json: is empty\n")));
  EXPECT_EQ(run([]() -> int { fail(ExitCode::config, "first\nsecond\r\nthird\n"); }),
            std::make_pair(78, std::string("error: first; second; third\n")));
  EXPECT_EQ(run([]() -> int { throw std::bad_alloc(); }).first, 71);
  EXPECT_EQ(run([]() -> int { throw std::filesystem::filesystem_error("no", std::error_code()); }).first, 74);
  EXPECT_EQ(run([]() -> int { throw std::out_of_range("x"); }), std::make_pair(70, std::string("error: unexpected: x\n")));
  EXPECT_EQ(run([]() -> int { throw 1; }).first, 70);
}

TEST(ProgramTest, CommandLineErrorsAre64AndHelpIs0) {
  EXPECT_EQ(run_with({"--count", "5"}).first, 5);
  const auto [status, text] = run_with({"--help"});
  EXPECT_EQ(status, 0);
  expect_contains(text, "--count");
  EXPECT_TRUE(text.ends_with("|")) << "help goes to stdout";
  for (const std::vector<const char*>& wrong :
       {std::vector<const char*>{}, {"--count"}, {"--count", "x"}, {"--count", "1", "--other"}}) {
    const auto [code, message] = run_with(wrong);
    EXPECT_EQ(code, 64);
    EXPECT_TRUE(message.starts_with("|error: ")) << message;
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1);
  }
}

}  // namespace
}  // namespace echo
