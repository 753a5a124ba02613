#include "training/training_log.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/file.h"
#include "tests/faults/file_calls.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using nlohmann::json;

json line_of(int64_t step) { return {{"event", "train"}, {"step", step}, {"loss", 0.1 * double(step)}}; }

TEST(TrainingLogTest, LinesOfStepsAfterTheOneResumedFromAreDropped) {
  const TemporaryFolder folder;
  const fs::path file = folder / "log.jsonl";
  {
    TrainingLog log(file, -1);
    for (int64_t step = 1; step <= 6; ++step) log.write(line_of(step));
  }
  TrainingLog log(file, 4);
  log.write(line_of(5));
  std::vector<int64_t> steps;
  for (const json& line : TrainingLog::read(file)) steps.push_back(line["step"]);
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5}));
}

TEST(TrainingLogTest, ALastLineThatWasCutOffIsDroppedWhereverItWasCut) {
  const TemporaryFolder folder;
  const fs::path file = folder / "log.jsonl";
  const std::string whole = line_of(1).dump() + "\n", next = line_of(2).dump();
  for (size_t length = 0; length <= next.size(); ++length) {
    write_file_atomically(file, whole + next.substr(0, length));
    TrainingLog log(file, 2);
    log.write(line_of(2));
    EXPECT_EQ(read_file(file), whole + next + "\n") << length;
  }
}

TEST(TrainingLogTest, AFreshRunStartsAnEmptyLog) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "log.jsonl", line_of(0).dump() + "\n");
  TrainingLog log(folder / "log.jsonl", -1);
  EXPECT_TRUE(TrainingLog::read(folder / "log.jsonl").empty());
}

TEST(TrainingLogTest, AWriteThatFailsSaysSo) {
  const TemporaryFolder folder;
  TrainingLog log(folder / "log.jsonl", -1);
  const FileCallWatch watch(folder.path(), [](const FileCall&) { return FileCallResult{.error = ENOSPC}; });
  EXPECT_NE(error_message(ExitCode::io, [&] { log.write(line_of(1)); }).find("log.jsonl"), std::string::npos);
}

TEST(TrainingLogTest, AMissingLogIsNamed) {
  EXPECT_NE(error_message(ExitCode::input_missing, [] { TrainingLog::read("/no/such/log.jsonl"); }).find("log.jsonl"),
            std::string::npos);
}

// Gives every term a different value. The value of a double needs all its digits.
template <class Terms>
void fill_terms(Terms& terms, int64_t& next) {
  Terms::visit([&]<class T>(const kernels::LossTerm&, T Terms::*member) {
    terms.*member = std::is_same_v<T, double> ? T(1.0 / double(++next)) : T(++next);
  });
}

LossSums sums_of_distinct_values() {
  LossSums sums;
  int64_t next = 2;
  sums.loss = 0.1 + 0.2;
  sums.tokens = 12345;
  fill_terms(sums.head, next);
  fill_terms(sums.hidden, next);
  return sums;
}

template <class Terms>
void expect_same_terms(const Terms& actual, const Terms& expected, int factor = 1) {
  Terms::visit(
      [&](const kernels::LossTerm& term, auto member) { EXPECT_EQ(actual.*member, factor * (expected.*member)) << term.sum; });
}

TEST(LogWindowTest, EverySumGoesThroughJsonBitForBit) {
  LogWindow window;
  window.steps = 3;
  window.sums = sums_of_distinct_values();
  const LogWindow back = log_window_from_json(json::parse(to_json(window).dump()));
  EXPECT_EQ(back.steps, 3);
  EXPECT_EQ(back.sums.loss, window.sums.loss);
  EXPECT_EQ(back.sums.tokens, window.sums.tokens);
  expect_same_terms(back.sums.head, window.sums.head);
  expect_same_terms(back.sums.hidden, window.sums.hidden);
}

TEST(LogWindowTest, KeysAreThoseOfStoredCheckpoints) {
  std::vector<std::string> keys;
  const nlohmann::json stored = to_json(LogWindow());
  for (const auto& [key, value] : stored.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"agreements", "correct", "hard_label", "hidden_raw", "hidden_relative",
                                            "hidden_rows", "kl", "kl_student_teacher", "kl_teacher_student", "loss", "rows",
                                            "steps", "tokens", "true_label"}));
}

TEST(LossSumsTest, EveryTermAddsUp) {
  LossSums sums = sums_of_distinct_values();
  sums += sums_of_distinct_values();
  const LossSums once = sums_of_distinct_values();
  EXPECT_EQ(sums.loss, 2 * once.loss);
  EXPECT_EQ(sums.tokens, 2 * once.tokens);
  expect_same_terms(sums.head, once.head, 2);
  expect_same_terms(sums.hidden, once.hidden, 2);
}

TEST(MeanTermsTest, TermsAreMeansOverTokensAndThoseNotComputedAreLeftOut) {
  LossSums sums;
  sums.tokens = 4;
  sums.loss = 8;
  sums.head.true_label = 6;
  sums.head.kl_teacher_student = 2;
  sums.head.correct = 3;
  EXPECT_EQ(mean_terms(sums, true_label_loss()), (json{{"loss", 2.0}, {"true_label", 1.5}, {"accuracy", 0.75}}));
  LossSettings head_only = stage_loss({});
  head_only.hidden_weight = 0;
  const json terms = mean_terms(sums, head_only);
  EXPECT_EQ(terms["kl_teacher_student"], 0.5);
  EXPECT_FALSE(terms.contains("hidden_mse"));
  EXPECT_TRUE(mean_terms(sums, stage_loss({})).contains("hidden_mse"));
}

TEST(MeanTermsTest, EveryTermIsLoggedAndOnTheConsoleInThisOrder) {
  json line = mean_terms(sums_of_distinct_values(), stage_loss({}));
  line["event"] = "train";
  line["step"] = 1;
  std::vector<std::string> names;
  std::istringstream words(console_line(line, 2));
  for (std::string word; words >> word;)
    if (std::isalpha(word[0])) names.push_back(word);
  EXPECT_EQ(names, (std::vector<std::string>{"step", "loss", "true_label", "kl", "kl_student_teacher", "kl_teacher_student",
                                             "hard_label", "hidden_mse", "hidden_relative", "agreement", "accuracy"}));
  EXPECT_EQ(line.size(), names.size() + 1);  // "event" is not shown
}

TEST(ConsoleLineTest, HasTheFieldsOfTheLogWithUnits) {
  json line = {{"event", "train"},
               {"step", 20},
               {"stage", 1},
               {"loss", 1.23456},
               {"kl", 0.5},
               {"learning_rate", 1e-3},
               {"grad_norm", 0.75},
               {"tokens_per_second", 1234.5},
               {"eta_seconds", 200.0},
               {"peak_memory_bytes", 3 << 20},
               {"data_wait_share", 0.02},
               {"tokens", 40960}};
  EXPECT_EQ(console_line(line, 300),
            "step 20/300  stage 1  loss 1.2346  kl 0.5000  lr 1.00e-03  grad_norm 0.7500  tokens 40960  1234 tokens/s  "
            "data wait 2 %  peak 3 MiB  eta 3 min 20 s");
}

TEST(ConsoleLineTest, NumbersThatAreNotFiniteDoNotStopIt) {
  json line = {{"event", "train"}, {"step", 1}, {"loss", std::numeric_limits<double>::quiet_NaN()}};
  EXPECT_NE(console_line(line, 2).find("loss"), std::string::npos);
  EXPECT_NE(console_line(json::parse(line.dump()), 2).find("loss not finite"), std::string::npos);  // JSON has null instead
}

}  // namespace
}  // namespace echo
