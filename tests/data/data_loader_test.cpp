#include "data/data_loader.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "data/source_factory.h"
#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

class DataLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int f = 0; f < 3; ++f)
      write_corpus_file(folder_ / ("train/" + std::to_string(f) + ".jsonl.zst"),
                        json_lines(made_up_texts(30, 20, uint64_t(f))));
    write_corpus_file(folder_ / "validation/v.jsonl.zst", json_lines(made_up_texts(10, 20, 77)));
    write_corpus_file(folder_ / "test/t.jsonl.zst", "damaged\n");
    settings_.paths = resolve_data_paths(folder_.path().string());
    settings_.sequence_length = 24;
    settings_.reset_attention = true;
  }
  TemporaryFolder folder_;
  Tokenizer tokenizer_ = small_tokenizer(folder_.path());
  DataSettings settings_;
};

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.inputs, b.inputs);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.first_key, b.first_key);
  EXPECT_EQ(a.valid_tokens, b.valid_tokens);
  EXPECT_EQ(a.cursor, b.cursor);
}

TEST_F(DataLoaderTest, BatchesAreTheSameWhateverTheTimingAndTheBatchSize) {
  DataLoader one(settings_, tokenizer_), other(settings_, tokenizer_);
  for (int i = 0; i < 30; ++i) {
    const Batch whole = one.next_batch(6);
    ASSERT_EQ(whole.rows, 6);
    ASSERT_EQ(whole.inputs.size(), 6u * 24u);
    ASSERT_EQ(whole.first_key.size(), 6u * 24u);
    EXPECT_EQ(whole.valid_tokens, 6 * 24);
    Batch parts = other.next_batch(2);
    if (i % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Batch rest = other.next_batch(4);
    parts.inputs.insert(parts.inputs.end(), rest.inputs.begin(), rest.inputs.end());
    EXPECT_EQ(parts.inputs, whole.inputs);
    EXPECT_EQ(rest.cursor, whole.cursor);
  }
  EXPECT_GE(one.wait_seconds(), 0);
}

TEST_F(DataLoaderTest, ResumesExactlyFromASavedCursorAlsoAcrossEpochs) {
  DataLoader loader(settings_, tokenizer_);
  std::vector<Batch> batches;
  while (batches.empty() || batches.back().cursor.epoch < 2) batches.push_back(loader.next_batch(5));
  for (const size_t start : {size_t{0}, batches.size() / 2, batches.size() - 3}) {
    const auto saved = nlohmann::json::parse(to_json(batches[start].cursor).dump());
    DataLoader resumed(settings_, tokenizer_, data_cursor_from_json(saved));
    expect_equal(resumed.next_batch(5), batches[start + 1]);
    expect_equal(resumed.next_batch(5), batches[start + 2]);
  }
}

TEST_F(DataLoaderTest, DestroyedAtAnyMomentItsThreadHasEndedAndNothingMoreIsRead) {
  const auto log = std::make_shared<ReadLog>();
  const DataFile file = memory_file("a.jsonl", json_lines(made_up_texts(30, 20, 1)), log);
  for (int i = 0; i < 20; ++i) {
    {
      DataLoader loader(TrainingPacker(settings_, "data", {file}, 0, tokenizer_, {}));
      if (i % 3 == 1) {
        loader.next_batch(1 + i);
        EXPECT_EQ(log->threads, 1);
      }
      if (i % 3 == 2) std::this_thread::sleep_for(std::chrono::microseconds(50 * i));
    }
    EXPECT_EQ(log->threads, 0);
    EXPECT_EQ(log->open_readers, 0);
    const int64_t read_before = log->bytes;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    EXPECT_EQ(log->bytes, read_before);
  }
  EXPECT_GT(log->bytes, 0);
}

TEST_F(DataLoaderTest, ErrorOfTheReadingThreadComesAfterTheRowsBeforeIt) {
  const std::string good = compress_zstd(json_lines(made_up_texts(400, 30, 1)));
  write_corpus_file(folder_ / "one/a.jsonl", "");
  write_file(folder_ / "one/b.jsonl.zst", good + good.substr(0, good.size() - 3));
  settings_.paths = resolve_data_paths((folder_ / "one").string(), "", 0);
  DataLoader loader(settings_, tokenizer_);
  EXPECT_EQ(loader.next_batch(20).rows, 20);
  for (int again = 0; again < 2; ++again) {
    const std::string message = error_message(ExitCode::bad_data, [&] {
      while (true) loader.next_batch(20);
    });
    expect_contains(message, "b.jsonl.zst: truncated: the file ends at byte ");
  }
}

TEST_F(DataLoaderTest, MissingEmptyAndBadDataAreErrorsWithTheirCodes) {
  settings_.paths = resolve_data_paths((folder_ / "nowhere").string());
  EXPECT_NE(error_message(ExitCode::input_missing, [&] { DataLoader(settings_, tokenizer_); }).find("nowhere"),
            std::string::npos);
  write_corpus_file(folder_ / "empty.jsonl", "");
  settings_.paths = resolve_data_paths((folder_ / "empty.jsonl").string());
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { DataLoader(settings_, tokenizer_).next_batch(1); })
                .find("empty.jsonl: no documents"),
            std::string::npos);
  write_corpus_file(folder_ / "bad.jsonl", "damaged\n" + json_lines(made_up_texts(20, 9, 1)));
  settings_.paths = resolve_data_paths((folder_ / "bad.jsonl").string());
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { DataLoader(settings_, tokenizer_).next_batch(100); })
                .find("1 of 21 records are bad"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { resolve_data_paths("x", "", 1); }).find("validation_fraction is 1"),
            std::string::npos);
}

TEST_F(DataLoaderTest, HeldOutDataFollowsTheRule) {
  const std::string root = folder_.path().string();
  DataPaths paths = resolve_data_paths(root);
  EXPECT_EQ(paths.training, root + "/train");
  EXPECT_EQ(paths.validation, root + "/validation");
  EXPECT_EQ(paths.held_out_fraction, 0);
  EXPECT_EQ(resolve_data_paths(root, root + "/test").validation, root + "/test");
  paths = resolve_data_paths(root + "/train", "", 0.25);
  EXPECT_EQ(paths.validation, root + "/train");
  EXPECT_EQ(paths.held_out_fraction, 0.25);
  settings_.paths = resolve_data_paths(root + "/train", "", 0);
  EXPECT_TRUE(settings_.paths.validation.empty());
  EXPECT_TRUE(held_out_batches(settings_, tokenizer_, 4, 0).empty());
}

TEST_F(DataLoaderTest, HeldOutBatchesAreCappedAndTheLastIsShorter) {
  int64_t tokens = 0;
  for (const std::string& text : made_up_texts(10, 20, 77)) tokens += int64_t(document_tokens(tokenizer_, text, false).size());
  const int64_t rows = (tokens - 1 + 23) / 24;
  const auto all = held_out_batches(settings_, tokenizer_, 4, 0);
  EXPECT_EQ(int64_t(all.size()), (rows + 3) / 4);
  int64_t valid = 0, counted = 0;
  for (const Batch& batch : all) {
    valid += batch.valid_tokens;
    counted += batch.rows;
    EXPECT_EQ(int64_t(batch.inputs.size()), batch.rows * 24);
  }
  EXPECT_EQ(counted, rows);
  EXPECT_EQ(valid, tokens - 1);
  const auto capped = held_out_batches(settings_, tokenizer_, 4, 6);
  ASSERT_EQ(capped.size(), 2u);
  EXPECT_EQ(capped[1].rows, 2);
  expect_equal(capped[0], all[0]);

  settings_.paths = resolve_data_paths((folder_ / "train/0.jsonl.zst").string(), "", 1e-9);
  EXPECT_NE(
      error_message(ExitCode::bad_data, [&] { held_out_batches(settings_, tokenizer_, 4, 0); }).find("no held-out documents"),
      std::string::npos);
}

TEST_F(DataLoaderTest, RealCorpusIsReadFilteredBySet) {
  const auto shared = shared_folder();
  if (!shared) GTEST_SKIP() << kNoSharedFolder;
  settings_.paths = resolve_data_paths((*shared / "corpora/slimpajama_sample").string());
  settings_.set_names = {"Wikipedia"};
  settings_.sequence_length = 128;
  const Tokenizer tokenizer(*shared / "tokenizers/llama_tokenizer.model");
  DataLoader loader(settings_, tokenizer);
  const Batch batch = loader.next_batch(100);
  EXPECT_EQ(batch.rows, 100);
  EXPECT_GT(batch.cursor.counts.documents, 0);
  EXPECT_GT(batch.cursor.counts.other_sets, batch.cursor.counts.documents);
  EXPECT_EQ(batch.cursor.counts.bad(), 0);
}

}  // namespace
}  // namespace echo
