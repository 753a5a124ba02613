// benchmarks/compare_gpu.py with servers that answer without measuring: how it handles answers, failures and its own end.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Answers each request in the same time. `rules`: Python statements that may change `answer` to the request `r`.
std::string answering(const std::string& rules) {
  return R"(#!/usr/bin/env python3
import json, os, signal, sys, time
print(json.dumps({"ready": True, "device": "none", "version": "0", "backend": "cudnn"}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    kernel, distill = r.get("kernel"), r.get("distill", False)
    answer = {"case": r["case"], "seconds": 0.001, "peak_bytes": 1 << 30}
    answer.update({"model": "none", "backend": "cudnn", "variants": "none"})
    if r.get("sketch"):
        answer["sketch"] = {"o": [1.0, 2.0, 2.0]}
)" + rules +
         R"(
    print(json.dumps(answer), flush=True)
)";
}

class CompareGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (run_executable("/usr/bin/env", {"python3", "-c", ""}).exit_code != 0) GTEST_SKIP() << "no python3";
    if (!fs::exists("benchmarks/compare_gpu.py")) GTEST_SKIP() << "not in the repository's folder";
  }

  ProgramResult run(const std::string& our_rules, const std::string& peer_rules, std::vector<std::string> more = {}) {
    write_file_atomically(folder_ / "ours", answering(our_rules));
    write_file_atomically(folder_ / "peer.py", answering(peer_rules));
    fs::permissions(folder_ / "ours", fs::perms::owner_all);
    std::vector<std::string> arguments = {"python3", "benchmarks/compare_gpu.py", "--tiny", "--device", "cpu"};
    for (const auto& [option, name] : {std::pair{"--program", "ours"},
                                       {"--peer", "peer.py"},
                                       {"--results", "results.json"},
                                       {"--document", "document.md"}}) {
      arguments.push_back(option);
      arguments.push_back((folder_ / name).string());
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_executable("/usr/bin/env", arguments);
  }

  std::string document() const { return read_file(folder_ / "document.md"); }
  bool tells(const std::string& text) const { return document().find(text) != std::string::npos; }

  const TemporaryFolder folder_;
};

TEST_F(CompareGpuTest, EveryTargetHasAFigureWhereAllIsAnswered) {
  write_file_atomically(folder_ / "document.md", "what stood there\n");
  const ProgramResult result = run("", "");
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(document().find("not measured"), std::string::npos) << document();
  EXPECT_TRUE(tells("what stood there\n\n## On none")) << document();
  for (const char* row : {"| training step, speed over compiled PyTorch | 1.000x | 2 |", "| loss_rows, share",
                          "| decode, batch 64", "| follower forward, T = 64 |", "none: the same bits", "| measured step |"})
    EXPECT_TRUE(tells(row)) << row << " is missing in\n" << document();
  EXPECT_FALSE(tells("did not come to its end"));
}

TEST_F(CompareGpuTest, ACaseThatFailsIsReportedAndTheOthersGoOn) {
  const ProgramResult result = run(R"(
    if kernel == "rope":
        answer = {"error": "rope is broken"}
    if r["case"] == "head":
        os._exit(1)
    if os.environ.get("ECHOATT_ATTENTION") == "sm80" and r["case"] == "follower_forward":
        answer["sketch"] = {"o": [1.0, 2.0, 2.3]}
)",
                                   R"(
    if distill and r["rows"] > 1:
        answer = {"error": "OutOfMemoryError: CUDA out of memory."}
    if r.get("module") == "transformers":
        answer = {"error": "no module"}
)");
  EXPECT_EQ(result.exit_code, 1);
  for (const char* text : {"rope, share of the copy rate | - | - | >= 90% | 93% | not measured: rope: rope is broken",
                           "not measured: head: the program ended", "rms_norm_forward, share of the copy rate | ",
                           "speed over an eager PyTorch loop (1 of 2 rows) | 1.000x", "distillation, PyTorch: 1 rows a step",
                           "| training step, speed over compiled PyTorch | 1.000x |", "(no module)", "**9.35%**"})
    EXPECT_TRUE(tells(text)) << text << " is missing in\n" << document();
}

TEST_F(CompareGpuTest, APeerThatDoesNotStartLeavesOurFigures) {
  EXPECT_EQ(run("", "", {"--peer", (folder_ / "absent.py").string()}).exit_code, 1);
  EXPECT_TRUE(tells("PyTorch's side did not start")) << document();
  EXPECT_TRUE(tells("| distillation step over plain step, time | 1.000x |")) << document();
}

TEST_F(CompareGpuTest, ARunThatIsKilledLeavesWhatItHad) {
  const ProgramResult result = run("    if distill: os.kill(os.getppid(), signal.SIGKILL)\n", "");
  EXPECT_EQ(result.signal, 9);
  EXPECT_TRUE(tells("did not come to its end")) << document();
  EXPECT_TRUE(tells("| training step, share of the measured matmul rate | ")) << document();
  const auto results = nlohmann::json::parse(read_file(folder_ / "results.json"));
  EXPECT_FALSE(results["complete"]);
  EXPECT_EQ(results["samples"]["step, 17 follow"].size(), 2u);
}

TEST_F(CompareGpuTest, AProgramThatHangsCostsItsOwnCaseOnly) {
  const ProgramResult result =
      run("    if kernel == 'cast': time.sleep(100)\n", "", {"--patience", "1", "--only", "elementwise"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(tells("not measured: cast: no answer within 1 s")) << document();
  EXPECT_TRUE(tells("| swiglu_backward, share of the copy rate | ")) << document();
}

TEST_F(CompareGpuTest, ARunThatIsAskedToEndReportsWhatItHas) {
  const ProgramResult result = run("    if distill: os.kill(os.getppid(), signal.SIGTERM); time.sleep(100)\n", "");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.errors.find("ended by SIGTERM"), std::string::npos) << result.errors;
  EXPECT_NE(result.output.find("did not come to its end"), std::string::npos) << result.output;
}

}  // namespace
}  // namespace echo
