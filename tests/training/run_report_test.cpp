#include "training/run_report.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/markup_check.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/training_log.h"

namespace echo {
namespace {

using nlohmann::json;

// The report of a run folder whose log holds these lines.
std::string report_of(TrainConfig config, const std::vector<json>& lines) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "run");
  config.output_dir = folder / "run";
  std::string log;
  for (const json& line : lines) log += line.dump() + "\n";
  write_file_atomically(folder / "run/trainer_log.jsonl", log);
  const TrainingRun run = prepare_run(config, resolve_inputs(config));
  write_run_report(config.output_dir, run);
  return read_file(folder / "run/report.html");
}

json evaluation(const char* model, const char* when, int64_t step, int64_t stage, double loss) {
  return {{"event", "evaluation"},
          {"model", model},
          {"when", when},
          {"step", step},
          {"stage", stage},
          {"loss", loss},
          {"kl_teacher_student", loss / 10},
          {"agreement", 0.75},
          {"accuracy", 0.5},
          {"tokens", 4096},
          {"tokens_per_second", 12345.6}};
}

json training(int64_t step, int64_t stage) {
  return {{"event", "train"},
          {"step", step},
          {"stage", stage},
          {"loss", 1.5},
          {"true_label", 2.5},
          {"learning_rate", 1e-3},
          {"grad_norm", 0.5},
          {"tokens", 100 * step},
          {"tokens_per_second", 900.0},
          {"peak_memory_bytes", 5 << 20}};
}

TEST(RunReportTest, TheTableHasTeacherAndStudentBeforeAndAfterEachStage) {
  const std::string page =
      report_of(tiny_distillation("unused"),
                {evaluation("teacher", "start", 0, 1, 1.1), evaluation("student", "start", 0, 1, 3.3), training(5, 1),
                 evaluation("student", "step", 5, 1, 2.9), training(8, 1), evaluation("student", "stage_end", 8, 1, 2.2),
                 training(12, 2), evaluation("student", "stage_end", 12, 2, 2.1)});
  for (const char* text : {"teacher", "student before training", "student after stage 1", "student after stage 2", "1.1000",
                           "3.3000", "2.2000", "2.1000", "0.2200", "75.0 %", "12,345", "4,096 tokens"})
    expect_contains(page, text);
  EXPECT_EQ(page.find("2.9000"), std::string::npos);  // evaluations within a stage are in the curves only
  for (const char* title : {"Training loss", "Cross-entropy on true labels", "Learning rate", "Gradient norm", "Speed",
                            "1 leads 2", "sequence_length: 32", "stage 2"})
    expect_contains(page, title);
  EXPECT_EQ(page.find("Hidden states at the ends"), std::string::npos);  // was not logged
}

TEST(RunReportTest, ThePageIsWellFormedAndLoadsNothing) {
  const std::string page = report_of(tiny_distillation("unused"), {evaluation("student", "start", 0, 1, 3.3), training(1, 1)});
  EXPECT_EQ(markup_problem(page), "");
  for (const char* loading : {"src=", "href=", "url(", "@import"}) EXPECT_EQ(page.find(loading), std::string::npos) << loading;
}

TEST(RunReportTest, AnEmptyLogAndValuesThatAreNotNumbersMakeAPageToo) {
  EXPECT_EQ(markup_problem(report_of(tiny_pretraining("unused"), {})), "");
  json odd = training(1, 1);
  odd["loss"] = nullptr;
  odd["grad_norm"] = "text";
  odd.erase("tokens");
  odd.erase("peak_memory_bytes");
  EXPECT_EQ(markup_problem(report_of(tiny_pretraining("unused"), {odd, {{"event", "skipped"}, {"step", 2}}, {{"event", "?"}}})),
            "");
}

TEST(RunReportTest, NamesFromTheConfigurationCannotBecomeMarkup) {
  const TemporaryFolder folder;
  fs::create_symlink(tiny_inputs().corpus, folder / "<b>&corpus");
  TrainConfig config = tiny_pretraining("unused");
  config.data.path = folder / "<b>&corpus";
  const std::string page = report_of(config, {training(1, 1)});
  EXPECT_EQ(page.find("<b>&corpus"), std::string::npos);
  expect_contains(page, "&lt;b&gt;&amp;corpus");
}

TEST(RunReportTest, AMissingLogIsNamed) {
  const TemporaryFolder folder;
  const TrainConfig config = tiny_pretraining(folder.path());
  const TrainingRun run = prepare_run(config, resolve_inputs(config));
  EXPECT_NE(error_message(ExitCode::input_missing, [&] { write_run_report(folder.path(), run); }).find("trainer_log.jsonl"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
