#include "analysis/analysis_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "analysis/analyze_command.h"
#include "analysis/report.h"
#include "base/file.h"
#include "base/random.h"
#include "report/numbers.h"
#include "tests/markup_check.h"
#include "tests/test_support.h"

namespace echo {
namespace {

using Json = nlohmann::json;

// An analysis in which every field is used.
Analysis full_analysis(int64_t layers) {
  RandomSequence random(uint64_t(layers), /*stream=*/1);
  Analysis analysis;
  analysis.model = "models/a \"b\" <c>";
  analysis.data = "data/x & y";
  analysis.command = {"./analyze", "--model", "models/a"};
  analysis.parameters = 1'000'000;
  analysis.attention = AttentionShape{64, 8, 4, 8};
  analysis.parameters_per_follower = parameters_per_follower(*analysis.attention);
  analysis.samples = 16;
  analysis.tokens_per_sample = 128;
  for (const SimilarityVariant variant : kSimilarityVariants) {
    SquareMatrix mean(layers, 1.0), error(layers);
    for (int64_t i = 0; i < layers; ++i)
      for (int64_t j = 0; j < i; ++j) {
        mean(i, j) = mean(j, i) = random.uniform() * 2 - 1;
        error(i, j) = error(j, i) = random.uniform() * 0.01;
      }
    analysis[variant] = SimilarityEstimate{mean, error};
  }
  make_plans(analysis);
  return analysis;
}

std::string refused(const std::string& text) {
  return error_message(ExitCode::bad_data, [&] { analysis_from_json(text, "m.json"); });
}

TEST(AnalysisFileTest, RoundTripsBitForBit) {
  for (const int64_t layers : {2, 5, 22}) {
    const Analysis analysis = full_analysis(layers);
    EXPECT_EQ(analysis_from_json(analysis_to_json(analysis), "x"), analysis);
  }
  Analysis sparse = full_analysis(6);
  sparse.samples = 1;
  sparse.attention.reset();
  sparse.parameters.reset();
  sparse.parameters_per_follower.reset();
  sparse.data.clear();
  sparse[SimilarityVariant::per_row].reset();
  sparse[SimilarityVariant::flat]->standard_error.reset();
  make_plans(sparse);
  EXPECT_EQ(analysis_from_json(analysis_to_json(sparse), "x"), sparse);
}

TEST(AnalysisFileTest, HoldsThePromisedKeys) {
  const Json json = Json::parse(analysis_to_json(full_analysis(8)));
  EXPECT_EQ(json["samples"], 16);
  EXPECT_EQ(json["tokens_per_sample"], 128);
  for (const char* variant : {"flat", "per_head", "per_row", "no_first_column"})
    for (const char* what : {"mean", "standard_error"}) {
      ASSERT_EQ(json["similarity"][variant][what].size(), 8u);
      EXPECT_EQ(json["similarity"][variant][what][7].size(), 8u);
    }
  EXPECT_EQ(json["layer_mean"].size(), 8u);
  EXPECT_EQ(json["ranking"].size(), 8u);
  EXPECT_TRUE(json["largest_gap"].is_number());
  EXPECT_TRUE(json["unchanged"].is_array());
  for (const Json& plan : json["plans"])
    for (const char* key : {"name", "leader_map", "followers", "parameters_removed", "mean_similarity", "min_similarity"})
      EXPECT_TRUE(plan.contains(key)) << key;
}

TEST(AnalysisFileTest, NeverWritesNonNumbersAndSurvivesAnyName) {
  Analysis analysis = full_analysis(4);
  analysis.model = "\xFF\xFE\"\n";
  EXPECT_NO_THROW(Json::parse(analysis_to_json(analysis)));
  (*analysis[SimilarityVariant::per_head]).mean(1, 2) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(error_message(ExitCode::numerical, [&] { analysis_to_json(analysis); })
                .find("similarity (per_head, mean) of layers 1 and 2 is not a finite number"),
            std::string::npos);
}

TEST(AnalysisFileTest, ReadsEveryFormOfAStoredMatrix) {
  const SquareMatrix expected(2, {1.0, 0.5, 0.5, 1.0});
  for (const char* text : {"[[1, 0.5], [0.5, 1]]", R"({"similarity": [[1, 0.5], [0.5, 1]]})",
                           R"({"source": "x", "similarity_of_something": [[1, 0.5], [0.5, 1.0]]})",
                           R"({"similarity": {"rows": [[3]], "flat": {"mean": [[1, 0.5], [0.5, 1]]}}})"}) {
    const Analysis analysis = analysis_from_json(text, "m.json");
    EXPECT_EQ(analysis.flat(), expected) << text;
    EXPECT_EQ(analysis.model, "m.json");
    EXPECT_FALSE(analysis.samples || analysis.parameters_per_follower);
    EXPECT_EQ(analysis.plans.size(), 2u);
  }
  // Different rounding of the two halves, and computed cosines slightly above 1, are accepted and corrected.
  const Analysis rounded = analysis_from_json("[[1.0000001, 0.50], [0.51, 0.999]]", "m.json");
  EXPECT_EQ(rounded.flat(), SquareMatrix(2, {1.0, 0.505, 0.505, 0.999}));
}

TEST(AnalysisFileTest, RefusesBadMatricesNamingFileAndFault) {
  EXPECT_EQ(refused("[[1, 0.5], [0.5]]"), "m.json: the matrix is not square: row 1 has 1 values, 2 values are expected");
  EXPECT_EQ(refused("[[1, 0.5], 3]"), "m.json: the matrix is not square: row 1 has no list, 2 values are expected");
  EXPECT_EQ(refused("[[1, 0.5], [0.7, 1]]"), "m.json: the matrix is not symmetric: layers 1 and 0 have 0.7 and 0.5");
  EXPECT_EQ(refused("[[1, 1.5], [1.5, 1]]"),
            "m.json: the matrix: layers 1 and 0 have the similarity 1.5; a cosine lies between -1 and 1");
  EXPECT_EQ(refused("[[0.9, 0.5], [0.5, 1]]"),
            "m.json: the matrix: layer 0 has the similarity 0.9 to itself; the diagonal must be 1");
  EXPECT_EQ(refused("[[1, null], [null, 1]]"), "m.json: the matrix, row 0, column 1: is not a number");
  EXPECT_EQ(refused("[[1]]"), "m.json: the matrix has 1 rows; a model of 2 to 256 layers is expected");
  EXPECT_EQ(refused("[]"), "m.json: the matrix has 0 rows; a model of 2 to 256 layers is expected");
  EXPECT_EQ(refused("{}"), "m.json: has no key that begins with \"similarity\"; its value should be a matrix");
  EXPECT_EQ(refused("3"), "m.json: has no similarity matrix");
  EXPECT_EQ(refused(R"({"similarity": "x"})"),
            "m.json: similarity is not a matrix; a list of L lists of L numbers is expected");
  EXPECT_EQ(refused(R"({"similarity": {"per_head": {"mean": [[1, 0], [0, 1]]}}})"), "m.json: similarity.flat is missing");
  EXPECT_NE(refused(R"({"similarity_a": [], "similarity_b": []})").find("several keys"), std::string::npos);
}

TEST(AnalysisFileTest, RefusesMalformedAndHostileFiles) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[[1, NaN], [NaN, 1]]"), std::string("[[1, 1e999], [1e999, 1]]"),
        std::string("\x89PNG\0\0", 6), std::string("{\"similarity\": \"\xFF\"}")})
    EXPECT_TRUE(refused(text).starts_with("m.json: is not valid JSON: ")) << text.substr(0, 20);
  EXPECT_EQ(refused(std::string(1'000'000, '[')), "m.json: is nested deeper than 32 levels");
  EXPECT_LT(refused("\"" + std::string(100'000, 'x')).size(), 300u) << "the message must not repeat the file";

  const Json good = Json::parse(analysis_to_json(full_analysis(4)));
  const auto refused_with = [&](const char* pointer, const Json& value) {
    Json json = good;
    json[Json::json_pointer(pointer)] = value;
    return refused(json.dump());
  };
  EXPECT_EQ(refused_with("/samples", -1), "m.json: samples is not a count; a whole number from 0 up is expected");
  EXPECT_EQ(refused_with("/samples", "x"), "m.json: samples is not a count; a whole number from 0 up is expected");
  EXPECT_EQ(refused_with("/parameters_per_follower", INT64_MAX), "m.json: parameters_per_follower is out of range");
  EXPECT_EQ(refused_with("/attention/heads", 0), "m.json: attention.heads is missing or out of range");
  EXPECT_EQ(refused_with("/plans", 1), "m.json: plans is not a list");
  EXPECT_EQ(refused_with("/plans/0", 1), "m.json: plans[0] has no leader_map");
  EXPECT_EQ(
      refused_with("/plans/0/leader_map", {0, 2, 2, 3}),
      "m.json: plans[0]: plans[0].leader_map: layer 1 points forward to layer 2; a matrix can only come from an earlier layer: "
      "use a value from 0 to 1");
  EXPECT_NE(refused_with("/plans/0/leader_map", {0, 1}).find("does not fit"), std::string::npos);
  EXPECT_EQ(refused_with("/plans/0/name", 3), "m.json: name is not a text");
  EXPECT_EQ(refused_with("/model", 3), "m.json: model is not a text");
  EXPECT_EQ(refused_with("/command", {1}), "m.json: command is not a list of texts");
  EXPECT_EQ(refused_with("/similarity/flat/standard_error", {{0, -1}, {1, 0}}),
            "m.json: similarity.flat.standard_error has the negative value -1");
  EXPECT_EQ(refused_with("/similarity/per_row/mean", {{1, 0}, {0, 1}}),
            "m.json: similarity.per_row: mean and standard_error have different sizes");
  error_message(ExitCode::input_missing, [] { read_analysis("no/such/file.json"); });
}

TEST(AnalysisReportTest, PageAndPictureAreWellFormedAndEscapeNames) {
  for (const int64_t layers : {2, 5, 22, 60}) {
    Analysis analysis = full_analysis(layers);
    analysis.model = "</title><script>alert(1)</script>\xFF";
    analysis.data = "<img src=x>";
    analysis.plans[0].name = "<b>";
    const std::string html = report_html(analysis), svg = similarity_svg(analysis);
    EXPECT_EQ(markup_problem(html), "");
    EXPECT_EQ(markup_problem(svg), "");
    EXPECT_EQ(html.find("<script>alert"), std::string::npos);
    EXPECT_EQ(svg.find("<script"), std::string::npos);
    EXPECT_EQ(html.find("<img"), std::string::npos);
    for (const char* outside : {"http://", "https://", "src=", "href=", "@import", "url("}) {
      std::string searched = html;  // the only address is the name of the SVG format
      for (size_t at; (at = searched.find("xmlns=\"http://www.w3.org/2000/svg\"")) != std::string::npos;)
        searched.erase(at, 34);
      for (size_t at; (at = searched.find("&lt;img src=x&gt;")) != std::string::npos;) searched.erase(at, 17);
      EXPECT_EQ(searched.find(outside), std::string::npos) << outside;
    }
  }
}

TEST(AnalysisReportTest, SaysOnHowMuchTheFiguresRest) {
  Analysis analysis = full_analysis(3);
  for (int64_t i = 0; i < 9; ++i) analysis[SimilarityVariant::flat]->standard_error = SquareMatrix(3, 0.004);
  EXPECT_EQ(evidence(analysis), "16 samples of 128 tokens; standard error of an entry: median 0.004, at most 0.004");
  analysis.samples = 1;
  analysis[SimilarityVariant::flat]->standard_error.reset();
  EXPECT_EQ(evidence(analysis), "1 sample of 128 tokens; one sample has no standard error");
  analysis.samples.reset();
  analysis.tokens_per_sample.reset();
  EXPECT_EQ(evidence(analysis), "number of samples not recorded; standard errors not recorded");
  EXPECT_EQ(grouped(80'216'064), "80,216,064");
  EXPECT_EQ(grouped(999), "999");
}

TEST(AnalysisReportTest, PublishedMatrixGivesFilesAndSummary) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  const TemporaryFolder folder;
  const Analysis analysis = read_analysis(*shared / "golden/paper.json");
  EXPECT_EQ(*analysis.parameters_per_follower, 4'718'592);
  const auto files = write_analysis(analysis, folder / "a/b");
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(read_analysis(files[0]), analysis);
  EXPECT_EQ(read_file(files[2]), report_html(analysis));
  EXPECT_NE(read_file(files[2]).find("largest gap 0.349"), std::string::npos);
  const std::string summary = analysis_summary(analysis);
  for (const char* line : {"ranking      2 5 4 7 3 6 18 9 8 11 12 1 17 10 14 13 16 15 19 20 21 0\n", "largest gap  0.3491\n",
                           "unchanged    0, 20-21\n", "80,216,064", "0.222  0.070  0 leads 1-14; 15 leads 16-18\n",
                           "0.868  0.750  2 leads 3-19\n", "warning: paper_a_77: layers 1-14 follow a leader"})
    EXPECT_NE(summary.find(line), std::string::npos) << line << "\n" << summary;
  write_file_atomically(folder / "file", "x");
  error_message(ExitCode::io, [&] { write_analysis(analysis, folder / "file"); });
}

TEST(AnalyzeCommandTest, AddsThePlansThatWereAskedFor) {
  Analysis analysis = full_analysis(12);
  const size_t before = analysis.plans.size();
  PlanRequests requests;
  requests.followers = {3};
  requests.budgets = {"followers:2", "parameters:6144", "parameters:6145", "flops:1", "cache_bytes:1"};
  requests.list = {4, 6, 8, 10};
  requests.uniform = {3, 4, 2};
  requests.leader_map = {0, 0, 2, 2, 4, 5, 6, 7, 8, 9, 10, 11};
  add_plans(analysis, requests);
  std::vector<std::string> names;
  for (size_t i = before; i < analysis.plans.size(); ++i) names.push_back(analysis.plans[i].name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"paper_a_3_followers", "paper_b_3_followers", "optimal_3_followers",
                                      "optimal_followers_2", "optimal_parameters_6144", "optimal_parameters_6145",
                                      "optimal_flops_1", "optimal_cache_bytes_1", "list_a", "uniform_3_4_2", "explicit"}));
  const auto plan = [&](std::string_view name) -> const Plan& { return *std::ranges::find(analysis.plans, name, &Plan::name); };
  EXPECT_EQ(plan("optimal_parameters_6144").followers, 1);
  EXPECT_EQ(plan("optimal_parameters_6145").followers, 2);
  EXPECT_EQ(plan("paper_b_3_followers").followers, 3);
  EXPECT_EQ(plan("list_a").leader_map, plan("uniform_3_4_2").leader_map);
  const auto wrong = [&](ExitCode code, const PlanRequests& request) {
    return error_message(code, [&] { add_plans(analysis, request); });
  };
  PlanRequests bad;
  for (const char* budget : {"9", "x:9", "flops:", "flops:1x", ":", ""}) {
    bad.budgets = {budget};
    EXPECT_NE(wrong(ExitCode::usage, bad).find("write followers:N"), std::string::npos);
  }
  bad.budgets = {"followers:nan"};
  wrong(ExitCode::config, bad);
  bad = {};
  bad.uniform = {1, 2};
  wrong(ExitCode::usage, bad);
  bad = {};
  bad.followers = {12};
  EXPECT_EQ(wrong(ExitCode::config, bad), "leader map: 12 followers requested; a model of 12 layers has room for 0 to 11");
  bad = {};
  bad.leader_map = {0};
  wrong(ExitCode::config, bad);
}

}  // namespace
}  // namespace echo
