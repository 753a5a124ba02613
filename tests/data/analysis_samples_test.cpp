#include "data/analysis_samples.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(AnalysisSamplesTest, TakesLongEnoughDocumentsInFileOrderCutWithBeginFirst) {
  TemporaryFolder folder;
  const Tokenizer tokenizer = small_tokenizer(folder.path());
  const auto texts = made_up_texts(40, 30, 8);
  write_corpus_file(folder / "d/b.jsonl", json_lines({texts.begin() + 20, texts.end()}));
  write_corpus_file(folder / "d/a.jsonl.zst", json_lines({texts.begin(), texts.begin() + 20}));
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text);
    ids.insert(ids.begin(), tokenizer.bos_id());
    if (ids.size() < 30) continue;
    ids.resize(30);
    expected.push_back(ids);
  }
  ASSERT_GT(expected.size(), 6u);
  EXPECT_EQ(analysis_samples((folder / "d").string(), tokenizer, 1000, 30), expected);
  expected.resize(5);
  EXPECT_EQ(analysis_samples((folder / "d").string(), tokenizer, 5, 30), expected);
  const std::string message =
      error_message(ExitCode::bad_data, [&] { analysis_samples((folder / "d").string(), tokenizer, 5, 5000); });
  expect_contains(message, "no document has 5000 tokens: 40 were read, the longest has ");
  write_corpus_file(folder / "empty.jsonl", "");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { analysis_samples((folder / "empty.jsonl").string(), tokenizer, 5, 5); })
                .find("no documents"),
            std::string::npos);
}

TEST(AnalysisSamplesTest, ReproducesTheRowsOfTheReferenceSimilarity) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  for (const char* model : {"stories12L", "stories260K"}) {
    const auto values = nlohmann::json::parse(read_file(*shared / "golden" / model / "values.json"));
    const auto rows = values.at("similarity").at("rows").get<std::vector<std::vector<int32_t>>>();
    ASSERT_FALSE(rows.empty());
    const Tokenizer tokenizer(*shared / "models" / model / "tokenizer.model");
    const auto length = int64_t(rows[0].size()), samples = int64_t(rows.size());
    bool found = false;
    for (const char* corpus : {"imdb_sample.jsonl.zst", "tinystories/train", "tinystories/validation"})
      found = found || analysis_samples((*shared / "corpora" / corpus).string(), tokenizer, samples, length) == rows;
    EXPECT_TRUE(found) << model << ": " << samples << " rows of " << length;
  }
}

}  // namespace
}  // namespace echo
