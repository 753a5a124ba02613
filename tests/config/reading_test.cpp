#include "config/reading.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "config/check.h"
#include "config/train_config.h"
#include "config/yaml_reader.h"
#include "tests/config/small_config.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using settings::Mode;
using settings::PlanMethod;

// The only problem of a text that is read as the file x.yaml.
std::string problem(std::string_view text, const std::vector<std::string>& overrides = {}) {
  const ConfigReading reading = read_config_text(text, "x.yaml", overrides);
  EXPECT_EQ(reading.problems.size(), 1u) << text;
  return reading.problems.empty() ? "" : reading.problems.front();
}

void expect_problem(std::string_view text, const std::string& begin, const std::string& part) {
  const std::string line = problem(text);
  EXPECT_TRUE(line.starts_with(begin)) << line;
  expect_contains(line, part);
}

TEST(ConfigReadingTest, EveryTypeOfValueIsRead) {
  const ConfigReading reading = read_config_text(
      "# a comment\n"
      "mode: continue\n"
      "output_dir: \"runs/a b\"\n"
      "seed: 7\n"
      "learning_rate: 1e-3\n"
      "report: false\n"
      "student:\n"
      "  model_name_or_path: 'runs/first'\n"
      "  leader_map: [0, 1, 1]\n"
      "  plan: {method: none}\n"
      "data:\n"
      "  epoch_tokens: 3.7e9\n"
      "  set_names:\n"
      "    - RedPajamaC4\n"
      "    - RedPajamaBook\n"
      "  set_weights:\n"
      "    C4: 0.5\n"
      "    \"12\": 2\n",
      "x.yaml");
  ASSERT_TRUE(reading.problems.empty()) << reading.problems.front();
  const TrainConfig& config = reading.config;
  EXPECT_EQ(config.mode, Mode::continue_training);
  EXPECT_EQ(config.output_dir, "runs/a b");
  EXPECT_EQ(config.seed, 7);
  EXPECT_EQ(config.learning_rate, 1e-3);
  EXPECT_FALSE(config.report);
  EXPECT_EQ(config.student.model_name_or_path, "runs/first");
  EXPECT_EQ(config.student.leader_map, (std::vector<int64_t>{0, 1, 1}));
  EXPECT_EQ(config.data.epoch_tokens, 3'700'000'000);
  EXPECT_EQ(config.data.set_names, (std::vector<std::string>{"RedPajamaC4", "RedPajamaBook"}));
  EXPECT_EQ(config.data.set_weights, (std::map<std::string, double>{{"C4", 0.5}, {"12", 2}}));
  EXPECT_EQ(config.adam_beta2, 0.999) << "a key that is not given keeps its default";
  EXPECT_EQ(reading.origins.at("data.epoch_tokens"), "x.yaml:12");
}

TEST(ConfigReadingTest, AnUnknownKeyIsNamedWithFileLineAndTheNearestKnownOne) {
  EXPECT_EQ(problem("seed: 1\nlearning_rat: 1e-4\n"), "x.yaml:2: learning_rat: unknown key; did you mean learning_rate?");
  EXPECT_EQ(problem("teacher:\n  model_name_or_pth: a\n"),
            "x.yaml:2: teacher.model_name_or_pth: unknown key; did you mean teacher.model_name_or_path?");
  EXPECT_EQ(problem("techer:\n  dtype: auto\n"), "x.yaml:1: techer: unknown key; did you mean teacher?");
  EXPECT_EQ(problem("kl_weight: 1\n"), "x.yaml:1: kl_weight: unknown key; did you mean distillation.kl_weight?")
      << "the right name in the wrong section";
  EXPECT_EQ(problem("lr: 1\n"), "x.yaml:1: lr: unknown key; did you mean learning_rate?") << "a common short name";
  EXPECT_EQ(problem("qqqqqqqq: 1\n"), "x.yaml:1: qqqqqqqq: unknown key; --print-config lists all of them");
}

TEST(ConfigReadingTest, WhatYamlLeavesOpenOrYamlCppLetsPassIsRefused) {
  expect_problem("seed: 1\nreport: true\nseed: 2\n", "x.yaml:3: seed: ", "given again, first in line 1");
  expect_problem("data:\n  path: a\n  path: b\n", "x.yaml:3: data.path: ", "given again, first in line 2");
  expect_problem("data: {path: a}\nseed: 1\ndata: {path: b}\n", "x.yaml:3: data: ", "given again");
  expect_problem("<<: {seed: 3}\n", "x.yaml:1: <<: ", "merge keys are not accepted");
  expect_problem("seed: &s 3\n", "x.yaml:1: seed: ", "an anchor (&name) is not accepted");
  expect_problem("teacher: &t\n  dtype: auto\n", "x.yaml:1: teacher: ", "an anchor");
  expect_problem("seed: !!int 3\n", "x.yaml:1: seed: ", "a tag");
  expect_problem("? [a, b]\n: 3\n", "x.yaml:1: ", "a key that is not text");
  expect_problem("seed: 1\n---\nseed: 2\n", "x.yaml:", "a second document begins");
  expect_problem("teacher.dtype: auto\n", "x.yaml:1: teacher.dtype: ", "in a file keys are nested");
  expect_problem("seed: 1\n\treport: true\n", "x.yaml:2: ", "a tab in the indentation");
  expect_problem("seed: [1, 2\n", "x.yaml:", "is not valid YAML");
  expect_problem("seed: 1\n  report: x: y\n", "x.yaml:2: ", "is not valid YAML");
  expect_problem("- seed\n", "x.yaml:1: ", "is not a mapping");
  expect_problem("seed\n", "x.yaml:1: ", "is not a mapping");
  expect_problem("", "x.yaml: ", "holds no settings");
  expect_problem("# nothing\n", "x.yaml: ", "holds no settings");
  expect_problem("seed: 1\noutput_dir: \xFF\xFE\n", "x.yaml:2: ", "not UTF-8");
  expect_problem("output_dir: \xED\xA0\x80\n", "x.yaml:1: ", "not UTF-8");
  expect_problem("seed: 1\noutput_dir: a\x01\n", "x.yaml:2: ", "control character");
  expect_problem("seed: " + std::string(40, '[') + std::string(40, ']') + "\n", "x.yaml:1: ", "nested deeper than 16");
  expect_problem(std::string(100'000, '['), "x.yaml", "nested deeper");
  expect_problem("seed: 1 #" + std::string(kMaximumYamlBytes, 'x'), "x.yaml: ", "is larger than 1048576 bytes");
}

TEST(ConfigReadingTest, AnAliasIsRefusedWithoutBeingExpanded) {
  std::string bomb = "output_dir: &a [x, x]\n";
  for (char c = 'b'; c <= 'z'; ++c) {  // 2^26 entries when expanded
    const std::string before(1, char(c - 1));
    bomb += concat("key", c, ": &", c, " [*", before, ", *", before, "]\n");
  }
  const ConfigReading reading = read_config_text(bomb + "seed: *z\n", "x.yaml");
  EXPECT_EQ(reading.problems.size(), 27u);
  EXPECT_EQ(reading.problems.back().find("x.yaml:27: seed: an alias (*name) is not accepted"), 0u) << reading.problems.back();
}

TEST(ConfigReadingTest, ValuesOfAnotherTypeAreRefused) {
  for (const char* text : {"yes", "no", "on", "off", "True", "TRUE", "y", "1", "0"})
    expect_problem(concat("report: ", text, "\n"), "x.yaml:1: report: ", "is not a truth value; true or false is expected");
  expect_problem("report: \"true\"\n", "x.yaml:1: report: ", "in quotes is text");
  expect_problem("seed: 010\n", "x.yaml:1: seed: ", "begins with 0, which YAML may read as octal");
  expect_problem("learning_rate: 00.5\n", "x.yaml:1: learning_rate: ", "begins with 0");
  for (const char* text : {"0x10", "0o10", "1_000", "ten", "1e", "--1", "1.5.2", ".nan", "1 000", "0b1"})
    expect_problem(concat("seed: ", text, "\n"), "x.yaml:1: seed: ", "is not a decimal number; a whole number");
  expect_problem("seed: \"3\"\n", "x.yaml:1: seed: ", "in quotes is text");
  expect_problem("seed: 2.5\n", "x.yaml:1: seed: ", "is not whole");
  expect_problem("seed: 1e-1\n", "x.yaml:1: seed: ", "is not whole");
  expect_problem("seed: 9223372036854775808\n", "x.yaml:1: seed: ", "does not fit into 64 bits");
  expect_problem("seed: 1e99999999999999999999\n", "x.yaml:1: seed: ", "does not fit into 64 bits");
  for (const char* text : {".nan", "nan", ".inf", "-.inf", "inf", "Infinity", "0x1p3", "1e"})
    expect_problem(concat("learning_rate: ", text, "\n"), "x.yaml:1: learning_rate: ", "is not a finite decimal number");
  expect_problem("learning_rate: 1e999\n", "x.yaml:1: learning_rate: ", "is too large");
  expect_problem("learning_rate: 1e-999\n", "x.yaml:1: learning_rate: ", "is too close to 0");
  expect_problem("seed:\nreport: true\n", "x.yaml:1: seed: ", "has no value");
  expect_problem("output_dir: ~\n", "x.yaml:1: output_dir: ", "has no value");
  for (const char* text : {"12", "010", "1e5", "no", "true", ".inf"})
    expect_problem(concat("output_dir: ", text, "\n"), "x.yaml:1: output_dir: ", "put it in quotes");
  expect_problem("output_dir: \"a\\nb\"\n", "x.yaml:1: output_dir: ", "control character or a line break");
  expect_problem("output_dir: [a]\n", "x.yaml:1: output_dir: ", "a list is given; text is expected");
  expect_problem("seed: {a: 1}\n", "x.yaml:1: seed: ", "a mapping (nested keys) is given");
  expect_problem("teacher: 3\n", "x.yaml:1: teacher: ", "is not a section; nested keys such as teacher.model_name_or_path");
  expect_problem("teacher:\nseed: 1\n", "x.yaml:1: teacher: ", "is empty");
  expect_problem("student: {leader_map: 3}\n", "x.yaml:1: student.leader_map: ", "a list of whole numbers");
  expect_problem("student: {leader_map: [0, 01]}\n",
                 "x.yaml:1: student.leader_map: ", "item 2 of the list: \"01\" begins with 0");
  const auto weights = [](const char* text) { return concat("data: {set_weights: ", text, "}\n"); };
  const char* const key = "x.yaml:1: data.set_weights: ";
  expect_problem(weights("[C4]"), key, "a list is given; numbers by name such as {first: 1, second: 0.5} are expected");
  expect_problem(weights("{C4: many}"), key, "\"C4\": \"many\" is not a finite decimal number");
  expect_problem(weights("{C4: 1, C4: 2}"), key, "\"C4\" is given twice; keep one");
  expect_problem(weights("{12: 1}"), key, "a name: \"12\"");
  expect_problem("mode: distil\n", "x.yaml:1: mode: ",
                 "\"distil\" is not known; one of distill, pretrain, continue is expected; did you mean distill?");
}

TEST(ConfigReadingTest, WholeNumbersMayBeWrittenWithAnExponentWhenExact) {
  const auto epoch_tokens = [](const std::string& text) {
    const ConfigReading reading = read_config_text("data: {epoch_tokens: " + text + "}\n", "x.yaml");
    EXPECT_TRUE(reading.problems.empty()) << text;
    return reading.config.data.epoch_tokens;
  };
  EXPECT_EQ(epoch_tokens("3.7e9"), 3'700'000'000);
  EXPECT_EQ(epoch_tokens("37E+8"), 3'700'000'000);
  EXPECT_EQ(epoch_tokens("1200e-2"), 12);
  EXPECT_EQ(epoch_tokens("8.0"), 8);
  EXPECT_EQ(epoch_tokens("0"), 0);
  EXPECT_EQ(epoch_tokens("-1"), -1);
  EXPECT_EQ(epoch_tokens("9007199254740993"), 9007199254740993) << "2^53 + 1 is lost by way of a double";
  EXPECT_EQ(epoch_tokens("9223372036854775807"), 9223372036854775807);
}

TEST(ConfigReadingTest, AllProblemsAreReportedAtOnceWithExitCode78) {
  TemporaryFolder folder;
  const fs::path path = folder / "x.yaml";
  write_file(path, "sed: 1\nreport: yes\nadam_beta1: 2\nteacher: {dtype: f32}\n");
  const std::string message = error_message(ExitCode::config, [&] { load_config(path, {"warmup_ratio=-1", "data.pth=a"}); });
  const std::string file = path.string();
  for (const std::string& part :
       {file + ":1: sed: unknown key; did you mean seed?", file + ":2: report: ", file + ":3: adam_beta1: is 2.0",
        file + ":4: teacher.dtype: \"f32\" is not known", file + ": teacher.model_name_or_path: is missing",
        std::string("\ncommand line: warmup_ratio=-1: warmup_ratio: is -1.0"),
        std::string("\ncommand line: data.pth=a: data.pth: unknown key; did you mean data.path?")})
    expect_contains(message, part);
  EXPECT_EQ(message.find("data.path: is missing"), std::string::npos) << "a misspelt key is not also missing";
}

TEST(ConfigReadingTest, WhatAModeNeedsIsNotAskedForWhenTheModeIsUnreadable) {
  const ConfigReading reading = read_config_text("mode: distil\nmax_steps: 1\nwarmup_ratio: 2\n", "x.yaml");
  const std::vector<std::string> lines = check_config(reading);
  ASSERT_EQ(lines.size(), 2u) << lines.back();
  EXPECT_TRUE(lines[1].starts_with("x.yaml:3: warmup_ratio: ")) << lines[1];
}

TEST(ConfigReadingTest, AHugeNumberOfProblemsIsCut) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += concat("key", i, ": 1\n");
  EXPECT_EQ(read_config_text(text, "x.yaml").problems.size(), 101u);
}

TEST(ConfigReadingTest, AMissingFileIsExitCode66) {
  TemporaryFolder folder;
  const std::string message = error_message(ExitCode::input_missing, [&] { load_config(folder / "none.yaml"); });
  expect_contains(message, "none.yaml: no such file");
  error_message(ExitCode::input_missing, [&] { load_config(folder.path()); });
}

TEST(ConfigReadingTest, AnEndlessFileIsRefused) {
  EXPECT_NE(error_message(ExitCode::config, [] { load_config("/dev/zero"); }).find("is larger than"), std::string::npos);
}

TEST(ConfigOverrideTest, PlacesOfDataAreOneTextOrAListOfTexts) {
  for (const char* text :
       {"data: {path: [a, b c, 'hf://datasets/o/n']}\n", "data:\n  path:\n    - a\n    - b c\n    - hf://datasets/o/n\n"}) {
    const TrainConfig config = read_config_text(text, "x.yaml", {}).config;
    EXPECT_EQ(config.data.path.entries, (std::vector<std::string>{"a", "b c", "hf://datasets/o/n"}));
    EXPECT_EQ(read_config_text(print_config(config), "printed", {}).config, config);
    EXPECT_EQ(config_to_json(config)["data"]["path"], nlohmann::json({"a", "b c", "hf://datasets/o/n"}));
  }
  const TrainConfig one = read_config_text("data: {path: [a]}\n", "x.yaml", {"data.validation_path=[c, d]"}).config;
  EXPECT_EQ(config_to_json(one)["data"]["path"], "a") << "as in checkpoints of earlier versions";
  EXPECT_EQ(one.data.validation_path.entries.size(), 2u);
}

TEST(ConfigOverrideTest, TheCommandLineComesBeforeTheFileAndTheLaterOneBeforeTheEarlier) {
  const ConfigReading reading =
      read_config_text("seed: 1\nlearning_rate: 1e-4\ndata: {path: a}\n", "x.yaml",
                       {"seed=2", "seed=3", "data.path=b c: #d", "student.leader_map=[0, 0]", "data.validation_path=*.jsonl",
                        "tokenizer=", "output_dir=\"quoted\"", "data.set_names=[A, 'B']", "mode=pretrain", "report=false"});
  ASSERT_TRUE(reading.problems.empty()) << reading.problems.front();
  EXPECT_EQ(reading.config.seed, 3);
  EXPECT_EQ(reading.config.learning_rate, 1e-4);
  EXPECT_EQ(reading.config.data.path, "b c: #d") << "text is taken as it stands";
  EXPECT_EQ(reading.config.data.validation_path, "*.jsonl");
  EXPECT_EQ(reading.config.output_dir, "quoted");
  EXPECT_EQ(reading.config.student.leader_map, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(reading.config.data.set_names, (std::vector<std::string>{"A", "B"}));
  EXPECT_EQ(reading.config.mode, Mode::pretrain);
  EXPECT_FALSE(reading.config.report);
}

TEST(ConfigOverrideTest, OverridesAreAsStrictAsTheFileAndNamed) {
  EXPECT_EQ(problem("seed: 1\n", {"seed=010"}),
            "command line: seed=010: seed: \"010\" begins with 0, which YAML may read as octal; write it without "
            "leading zeros");
  EXPECT_EQ(problem("seed: 1\n", {"sead=1"}), "command line: sead=1: sead: unknown key; did you mean seed?");
  for (const char* argument : {"report=yes", "seed=", "seed=1 2", "seed=[1", "learning_rate=.nan", "student.leader_map=0",
                               "teacher=x", "seed", "=3", "data.path=\xFF", "data.path={a: 1}", "seed=*a", "seed=1\n---\n2"}) {
    const std::string line = problem("seed: 1\n", {argument});
    EXPECT_TRUE(line.starts_with("command line: ")) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
}

TEST(ConfigPrintTest, WhatIsPrintedReadsBackEqual) {
  TrainConfig config = small();
  config.mode = Mode::continue_training;
  config.learning_rate = 0.1 + 0.2;  // needs all 17 digits
  config.adam_epsilon = 5e-324;
  config.adam_beta2 = 1e22;
  config.seed = INT64_MAX;
  config.max_steps = INT64_MIN;
  config.student.plan.method = PlanMethod::paper_lending;
  config.student.leader_map = {0, 1, 1};
  config.data.set_names = {"RedPajamaC4", "with space", "yes", "010", "", "- #:*&!\"'\\", "\u00e4\u6f22", "~"};
  config.data.set_weights = {{"C4", 0.1}, {"with space", 1}, {"12", 2.5}};
  config.output_dir = "010";
  config.tokenizer = "*";
  config.report = false;
  config.distillation.kl_direction = settings::KlDirection::jensen_shannon;
  const std::string text = print_config(config);
  const ConfigReading reading = read_config_text(text, "printed.yaml");
  ASSERT_TRUE(reading.problems.empty()) << reading.problems.front() << "\n" << text;
  EXPECT_TRUE(reading.config == config) << text;
  EXPECT_FALSE(reading.config == small());
}

TEST(ConfigPrintTest, EveryKeyIsPrintedAndExportedAsJson) {
  const std::string text = print_config(small());
  const ConfigReading reading = read_config_text(text, "printed.yaml");
  const nlohmann::json json = config_to_json(small());
  const std::vector<std::string> keys = config_keys();
  EXPECT_GT(keys.size(), 80u);
  for (const std::string& key : keys) {
    EXPECT_TRUE(reading.origins.contains(key)) << key;
    std::string pointer = "/" + key;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    EXPECT_TRUE(json.contains(nlohmann::json::json_pointer(pointer))) << key;
  }
  EXPECT_EQ(json["mode"], "distill");
  EXPECT_EQ(json["student"]["plan"]["followers"], 5);
  expect_contains(text, "# peak learning rate of the schedule\nlearning_rate: 0.0001\n");
}

}  // namespace
}  // namespace echo
