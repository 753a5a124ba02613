#include "training/resolved_inputs.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_setup.h"

namespace echo {
namespace {

// The tiny distillation, with all inputs in one folder that a test may change.
class ResolvedInputsTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::copy(tiny_inputs().teacher, folder_ / "teacher", fs::copy_options::recursive);
    fs::copy(tiny_inputs().corpus, folder_ / "corpus", fs::copy_options::recursive);
    config_.teacher.model_name_or_path = folder_ / "teacher";
    config_.data.path = folder_ / "corpus";
  }
  TemporaryFolder folder_;
  TrainConfig config_ = tiny_distillation(folder_ / "run");
};

TEST_F(ResolvedInputsTest, WhatComesAndGoesAfterTheSearchDoesNotChangeTheAnswer) {
  fs::remove_all(folder_ / "corpus/validation");
  const ResolvedInputs inputs = resolve_inputs(config_);
  EXPECT_EQ(inputs.data.paths.validation, (folder_ / "corpus/train").string());
  // Held-out text appears. The teacher moves, and the configuration gives its new location.
  fs::copy(tiny_inputs().corpus / "validation", folder_ / "corpus/validation", fs::copy_options::recursive);
  EXPECT_EQ(prepare_run(config_, inputs).data.paths.validation, (folder_ / "corpus/train").string());
  fs::rename(folder_ / "teacher", folder_ / "moved");
  config_.teacher.model_name_or_path = folder_ / "moved";
  EXPECT_NE(error_message(ExitCode::input_missing, [&] { prepare_run(config_, inputs); }).find((folder_ / "teacher").string()),
            std::string::npos);
}

TEST_F(ResolvedInputsTest, DistillationStartsFromTheTeacherUnlessAStudentIsNamed) {
  ResolvedInputs inputs = resolve_inputs(config_);
  EXPECT_EQ(inputs.start, inputs.teacher);
  EXPECT_EQ(inputs.tokenizer, folder_ / "teacher/tokenizer.model");
  fs::copy(folder_ / "teacher", folder_ / "student", fs::copy_options::recursive);
  config_.student.model_name_or_path = folder_ / "student";
  inputs = resolve_inputs(config_);
  EXPECT_EQ(inputs.start, folder_ / "student");
  EXPECT_EQ(inputs.tokenizer, folder_ / "teacher/tokenizer.model");  // the student reads the teacher's ids
}

TEST_F(ResolvedInputsTest, EveryMissingInputIsListedOnceAndARunFailsWithTheFirst) {
  config_.teacher.model_name_or_path = folder_ / "no-teacher";
  config_.data.path = folder_ / "no-corpus";
  config_.student.leader_map.clear();
  config_.student.plan.method = settings::PlanMethod::optimal;
  config_.student.plan.analysis = folder_ / "no-analysis.json";
  const InputSearch search = search_inputs(config_);
  // The tokenizer would be in the teacher's folder, so it is not reported separately.
  ASSERT_EQ(search.problems.size(), 3u);
  const char* const keys[] = {"teacher.model_name_or_path: ", "data.path: ", "student.plan.analysis: "};
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::string(search.problems[i].what()).find(keys[i]), 0u) << search.problems[i].what();
  EXPECT_EQ(error_message(ExitCode::input_missing, [&] { resolve_inputs(config_); }), search.problems[0].what());
  const std::vector<std::string> listed = check_inputs(config_, search);
  ASSERT_EQ(listed.size(), 3u);
  EXPECT_EQ(listed[0], search.problems[0].what());
}

TEST_F(ResolvedInputsTest, AnAnalysisThatThePlanDoesNotReadNeedNotBeThere) {
  config_.student.plan.analysis = folder_ / "no-analysis.json";
  EXPECT_FALSE(resolve_inputs(config_).analysis);  // student.leader_map is given, so no analysis is needed
}

TEST_F(ResolvedInputsTest, PretrainNeedsATokenizerAndSaysSo) {
  TrainConfig config = tiny_pretraining(folder_ / "run");
  config.tokenizer.clear();
  EXPECT_NE(error_message(ExitCode::config, [&] { resolve_inputs(config); }).find("tokenizer: not given"), std::string::npos);
}

}  // namespace
}  // namespace echo
