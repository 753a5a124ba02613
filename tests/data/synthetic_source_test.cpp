#include "data/synthetic_source.h"

#include <gtest/gtest.h>

#include <cctype>
#include <chrono>
#include <set>

#include "data/corpus_source.h"
#include "data/data_loader.h"
#include "data/source_factory.h"
#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalpha(static_cast<unsigned char>(c))) {
      word += char(std::tolower(c));
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}

TEST(SyntheticSourceTest, StoriesDependOnSeedAndIndexOnly) {
  EXPECT_EQ(make_story(1, 7), make_story(1, 7));
  EXPECT_NE(make_story(1, 7), make_story(1, 8));
  EXPECT_NE(make_story(1, 7), make_story(2, 7));
  std::set<std::string> different;
  for (uint64_t i = 0; i < 2000; ++i) different.insert(make_story(3, i));
  EXPECT_EQ(different.size(), 2000u);
}

TEST(SyntheticSourceTest, StoriesHaveTheStatedLengthAndASmallVocabulary) {
  std::set<std::string> vocabulary;
  double total = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    const auto words = words_of(make_story(4, i));
    total += double(words.size());
    EXPECT_GE(words.size(), 120u) << make_story(4, i);
    EXPECT_LE(words.size(), 450u) << make_story(4, i);
    vocabulary.insert(words.begin(), words.end());
  }
  EXPECT_GT(total / 1000, 150);
  EXPECT_GT(vocabulary.size(), 300u);
  EXPECT_LT(vocabulary.size(), 650u);
}

TEST(SyntheticSourceTest, SentencesAreWellFormed) {
  for (uint64_t i = 0; i < 300; ++i) {
    const std::string story = make_story(5, i);
    EXPECT_TRUE(std::isupper(static_cast<unsigned char>(story.front()))) << story;
    EXPECT_EQ(story.find("  "), std::string::npos) << story;
    EXPECT_EQ(story.find(".."), std::string::npos) << story;
    EXPECT_EQ(story.find(" ."), std::string::npos) << story;
    EXPECT_EQ(std::count(story.begin(), story.end(), '"') % 2, 0) << story;
  }
}

TEST(SyntheticSourceTest, SourceGoesOnFromAnyPosition) {
  SyntheticSource source(6, 10);
  const auto texts = all_texts(source);
  ASSERT_EQ(texts.size(), 10u);
  source.restore({4, -1});
  EXPECT_EQ(all_texts(source), std::vector<std::string>(texts.begin() + 4, texts.end()));
}

TEST(SyntheticSourceTest, CorpusHasTheLayoutThatTrainingExpects) {
  TemporaryFolder folder;
  const StoryCorpus corpus = write_story_corpus(folder.path(), 4400, 9);
  EXPECT_EQ(corpus.training_documents + corpus.validation_documents, 4400);
  EXPECT_EQ(corpus.files, 3);
  const DataPaths paths = resolve_data_paths(folder.path().string());
  EXPECT_EQ(paths.held_out_fraction, 0);
  const auto count = [](const PathList& path, const char* set) {
    CorpusSource source(path.text(), find_data_files(path), SetFilter({set}), 0);
    const auto texts = all_texts(source);
    return std::set<std::string>(texts.begin(), texts.end());
  };
  const auto training = count(paths.training, "Stories"), held_out = count(paths.validation, "RedPajamaStories");
  EXPECT_EQ(int64_t(training.size()), corpus.training_documents);
  EXPECT_EQ(int64_t(held_out.size()), corpus.validation_documents);
  EXPECT_TRUE(fs::exists(folder / "train/chunk1/example_train_1.jsonl.zst"));
  EXPECT_TRUE(fs::exists(folder / "validation/chunk1/example_holdout_0.jsonl.zst"));
  for (const std::string& text : held_out) EXPECT_FALSE(training.contains(text));
  EXPECT_NE(error_message(ExitCode::config, [&] { write_story_corpus(folder.path(), 1, 9); }).find("at least 2"),
            std::string::npos);
  write_file(folder / "file", "x");
  EXPECT_NE(error_message(ExitCode::io, [&] { write_story_corpus(folder / "file", 10, 9); }).find("cannot be created"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
