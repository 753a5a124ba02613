#include "data/source_factory.h"

#include <gtest/gtest.h>

#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

std::vector<std::string> names(const fs::path& folder, const std::string& path) {
  std::vector<std::string> found;
  for (const DataFile& file : find_data_files(path)) found.push_back(fs::path(file.name).lexically_relative(folder).string());
  return found;
}

TEST(SourceFactoryTest, FindsFilesFoldersAndPatternsInSortedOrder) {
  TemporaryFolder folder;
  for (const char* name :
       {"b/two.jsonl", "a/one.jsonl.zst", "a/notes.txt", "a/readme.md", "a/.hidden.jsonl", ".cache/x.jsonl", "c.txt"})
    write_corpus_file(folder / name, json_line("x"));
  const std::string root = folder.path().string();
  EXPECT_EQ(names(folder.path(), root), (std::vector<std::string>{"a/notes.txt", "a/one.jsonl.zst", "b/two.jsonl", "c.txt"}));
  EXPECT_EQ(names(folder.path(), root + "/a/one.jsonl.zst"), (std::vector<std::string>{"a/one.jsonl.zst"}));
  EXPECT_EQ(names(folder.path(), root + "/*/*.jsonl*"), (std::vector<std::string>{"a/one.jsonl.zst", "b/two.jsonl"}));
  EXPECT_EQ(names(folder.path(), root + "/[ab]"), (std::vector<std::string>{"a/notes.txt", "a/one.jsonl.zst", "b/two.jsonl"}));
}

TEST(SourceFactoryTest, NothingThereIsInputMissingAndOtherKindsAreBadData) {
  TemporaryFolder folder;
  write_corpus_file(folder / "table.csv", "a,b\n");
  const std::string root = folder.path().string();
  const auto message = [](ExitCode code, const std::string& path) {
    return error_message(code, [&] { find_data_files(path); });
  };
  EXPECT_NE(message(ExitCode::input_missing, root + "/nowhere").find("nowhere: there is no such file or folder"),
            std::string::npos);
  EXPECT_NE(message(ExitCode::input_missing, root + "/*.jsonl").find("*.jsonl: no data file matches"), std::string::npos);
  EXPECT_NE(
      message(ExitCode::input_missing, root).find("no data file in this folder (files ending in .jsonl, .jsonl.zst, .txt)"),
      std::string::npos);
  EXPECT_NE(message(ExitCode::input_missing, "").find("no such file"), std::string::npos);
  EXPECT_NE(message(ExitCode::bad_data, root + "/table.csv").find("table.csv: this kind of data file is not supported"),
            std::string::npos);
}

TEST(SourceFactoryTest, TextFileIsOneDocument) {
  TemporaryFolder folder;
  write_corpus_file(folder / "a.txt", "\xEF\xBB\xBFOne line.\n\nAnother.\n");
  write_corpus_file(folder / "b.txt", "\xFF\xFE");
  const auto source = open_document_source(local_data_file(folder / "a.txt"), SetFilter());
  EXPECT_EQ(all_texts(*source), (std::vector<std::string>{"One line.\n\nAnother.\n"}));
  const auto damaged = open_document_source(local_data_file(folder / "b.txt"), SetFilter());
  EXPECT_TRUE(all_texts(*damaged).empty());
  EXPECT_EQ(damaged->counts().invalid_utf8, 1);
}

TEST(SourceFactoryTest, FingerprintFollowsNamesAndSizesButNotTheFolder) {
  TemporaryFolder first, second;
  for (const TemporaryFolder* folder : {&first, &second}) {
    write_corpus_file(*folder / "x/a.jsonl", "1\n");
    write_corpus_file(*folder / "b.jsonl", "22\n");
  }
  const auto fingerprint = [](const TemporaryFolder& folder) {
    return fingerprint_of_files(find_data_files(folder.path().string()));
  };
  const uint64_t before = fingerprint(first);
  EXPECT_EQ(before, fingerprint(second));
  write_corpus_file(second / "b.jsonl", "333\n");
  EXPECT_NE(before, fingerprint(second));
  fs::rename(first / "b.jsonl", first / "c.jsonl");
  EXPECT_NE(before, fingerprint(first));
}

}  // namespace
}  // namespace echo
