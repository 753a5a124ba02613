#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/programs/program_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using nlohmann::json;

std::vector<json> answers_to(const std::vector<json>& requests, const std::filesystem::path& program) {
  ProgramOptions options;
  options.environment = {{"OMP_NUM_THREADS", "1"}};  // tiny operations: starting threads would take longer than the work
  for (const json& request : requests) options.input += request.dump() + "\n";
  const ProgramResult result = run_executable(program, {"--device", "cpu"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  std::vector<json> answers;
  std::istringstream lines(result.output);
  for (std::string line; std::getline(lines, line);) answers.push_back(json::parse(line));
  return answers;
}

TEST(GpuBenchmarkTest, EveryCaseIsTimedAtToySizesOnTheCpu) {
  const auto program = find_program("benchmarks/gpu_benchmark");
  if (!program) GTEST_SKIP() << kNotBuilt;
  const json model = {{"layers", 4},   {"hidden", 32}, {"heads", 4}, {"kv_heads", 2},
                      {"head_dim", 8}, {"mlp", 48},    {"vocab", 64}};
  const json attention = {{"rows", 1}, {"tokens", 16}, {"heads", 4}, {"kv_heads", 2}, {"head_dim", 8}};
  const auto request = [](const std::string& name, const json& fields) {
    json result = {{"case", name}, {"seconds", 0.001}, {"dtype", "f32"}};
    result.update(fields);
    return result;
  };
  std::vector<json> requests = {
      request("copy", {{"bytes", 4096}}),
      request("matmul", {{"m", 8}, {"n", 12}, {"k", 16}, {"transpose_a", true}, {"output", "f32"}}),
      request("attention_forward", attention),
      request("follower_forward", attention),
      request("attention_backward", attention),
      request("head", {{"tokens", 16}, {"hidden", 32}, {"vocab", 64}}),
      request("adamw", {{"parameters", 1000}, {"spans", 4}}),
      request("gradient_norm", {{"parameters", 1000}, {"spans", 4}}),
      request("step", {{"model", model}, {"rows", 2}, {"tokens", 16}, {"leaders", {0, 1, 1, 3}}}),
      request("step", {{"model", model}, {"rows", 2}, {"tokens", 16}, {"leaders", {0, 1, 1, 3}}, {"distill", true}}),
      request("decode", {{"model", model}, {"batch", 2}, {"context", 16}, {"steps", 4}, {"leaders", nullptr}}),
  };
  requests[4]["layers"] = 4;
  for (const char* kernel : {"rms_norm_forward", "add_rms_norm_forward", "rms_norm_backward", "rope", "swiglu_forward",
                             "swiglu_backward", "cast", "embedding_forward", "embedding_backward", "softmax_forward",
                             "softmax_backward", "hidden_error", "attention_delta", "loss_rows"}) {
    json fields = model;
    fields.update({{"kernel", kernel}, {"tokens", 32}, {"sequence", 16}, {"loss_tokens", 8}});
    requests.push_back(request("elementwise", fields));
  }
  requests.push_back({{"case", "release"}});
  const std::vector<json> answers = answers_to(requests, *program);
  ASSERT_EQ(answers.size(), requests.size() + 1);
  EXPECT_TRUE(answers[0].value("ready", false)) << answers[0];
  for (size_t i = 0; i + 1 < requests.size(); ++i) {
    const json& answer = answers[i + 1];
    EXPECT_EQ(answer.value("case", ""), requests[i]["case"]) << requests[i] << " -> " << answer;
    EXPECT_GT(answer.value("seconds", 0.0), 0) << requests[i] << " -> " << answer;
    EXPECT_GT(answer.value("iterations", 0), 0) << requests[i] << " -> " << answer;
  }
  EXPECT_EQ(answers.back().value("in_use_bytes", -1), 0) << "what was prepared is released";
}

// Results of two processes are compared by sketches. Equal requests give equal sketches, only in the first answer. If something
// else was computed, the sketches are as far apart as the results.
TEST(GpuBenchmarkTest, SketchesTellResultsApart) {
  const auto program = find_program("benchmarks/gpu_benchmark");
  if (!program) GTEST_SKIP() << kNotBuilt;
  const auto request = [](const char* name, const char* dtype) {
    return json{{"case", name},  {"seconds", 0.001}, {"rows", 1},      {"tokens", 40},   {"heads", 4},  {"kv_heads", 2},
                {"head_dim", 8}, {"layers", 2},      {"dtype", dtype}, {"sketch", true}, {"trim", true}};
  };
  const json forward = request("attention_forward", "f32"), backward = request("attention_backward", "f32");
  const auto first = answers_to({forward, forward, backward, request("attention_forward", "bf16")}, *program);
  const auto second = answers_to({forward}, *program);
  ASSERT_EQ(first.size(), 5u);
  ASSERT_EQ(second.size(), 2u);
  ASSERT_TRUE(first[1].contains("sketch") && first[3].contains("sketch") && first[4].contains("sketch")) << first[1];
  EXPECT_FALSE(first[2].contains("sketch")) << "told once";
  EXPECT_EQ(first[1]["sketch"], second[1]["sketch"]);
  for (const char* name : {"dq", "dk", "dv0", "dv1"}) EXPECT_EQ(first[3]["sketch"][name].size(), 256u) << name;
  double distance = 0, norm = 0;
  for (size_t i = 0; i < 256; ++i) {
    const double a = first[1]["sketch"]["o"][i], b = first[4]["sketch"]["o"][i];
    distance += (a - b) * (a - b);
    norm += a * a;
  }
  // bf16 keeps 8 bits: the error of operands and results is up to 0.4 %, on average a third of that.
  EXPECT_GT(std::sqrt(distance / norm), 5e-4);
  EXPECT_LT(std::sqrt(distance / norm), 1e-2);
}

TEST(GpuBenchmarkTest, ARequestThatCannotBeAnsweredDoesNotEndTheProgram) {
  const auto program = find_program("benchmarks/gpu_benchmark");
  if (!program) GTEST_SKIP() << kNotBuilt;
  const std::vector<json> answers = answers_to({{{"case", "nonsense"}},
                                                {{"bytes", 3}},
                                                {{"case", "copy"}},
                                                json(7),
                                                {{"case", "copy"}, {"bytes", 4096}, {"seconds", 0.001}}},
                                               *program);
  ASSERT_EQ(answers.size(), 6u);
  for (size_t i = 1; i < 5; ++i) EXPECT_TRUE(answers[i].contains("error")) << answers[i];
  EXPECT_GT(answers[5].value("seconds", 0.0), 0) << answers[5];
}

}  // namespace
}  // namespace echo
