#include "data/shuffle.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "data/packer.h"
#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

TEST(ShuffleTest, FileOrderIsAPermutationThatChangesWithSeedAndEpochOnly) {
  const auto order = file_order(50, 1, 0);
  EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 50u);
  EXPECT_EQ(order, file_order(50, 1, 0));
  EXPECT_NE(order, file_order(50, 1, 1));
  EXPECT_NE(order, file_order(50, 2, 0));
}

TEST(ShuffleTest, EveryOrderOfThreeValuesIsEquallyLikely) {
  std::map<std::vector<int>, int> orders;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    std::vector<int> values = {0, 1, 2};
    RandomSequence random(seed);
    shuffle(std::span(values), random);
    ++orders[values];
  }
  ASSERT_EQ(orders.size(), 6u);
  // 1000 expected, standard deviation 29: five of them.
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, 1000, 145);
}

// Ten files of different length and format, in memory.
class ShuffledDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int f = 0; f < 10; ++f) {
      texts_.push_back(made_up_texts(5 + 7 * (f % 4), 14, uint64_t(f)));
      const std::string lines = "damaged\n" + json_lines(texts_.back());
      const bool compressed = f % 2 == 1;
      files_.push_back(memory_file(std::to_string(f) + (compressed ? ".jsonl.zst" : ".jsonl"),
                                   compressed ? compress_zstd(lines) : lines, log_));
    }
    settings_.sequence_length = 16;
    settings_.max_bad_fraction = 0.5;
    settings_.seed = 5;
    settings_.shuffle_tokens = 40 * 16;
  }
  std::multiset<std::string> all() const {
    std::multiset<std::string> texts;
    for (const auto& some : texts_) texts.insert(some.begin(), some.end());
    return texts;
  }
  CorpusSource source(int64_t open_files, uint64_t stream = 3) const {
    return CorpusSource("d", files_, SetFilter(), 0.5, {open_files, 5, stream});
  }
  TrainingPacker packer(const DataCursor& start = {}) const {
    return TrainingPacker(settings_, "data", files_, 0, tokenizer_, start);
  }
  std::vector<Row> rows(size_t count) const {
    TrainingPacker packed = packer();
    std::vector<Row> all_rows(count);
    for (Row& row : all_rows) EXPECT_TRUE(packed.next(row));
    return all_rows;
  }
  int64_t epoch_tokens() const {
    int64_t tokens = 0;
    for (const auto& texts : texts_)
      for (const std::string& text : texts) tokens += int64_t(document_tokens(tokenizer_, text, false).size());
    return tokens;
  }

  TemporaryFolder folder_;
  Tokenizer tokenizer_ = small_tokenizer(folder_.path());
  std::shared_ptr<ReadLog> log_ = std::make_shared<ReadLog>();
  std::vector<std::vector<std::string>> texts_;
  std::vector<DataFile> files_;
  DataSettings settings_;
};

TEST_F(ShuffledDataTest, InterleavedFilesGiveEachDocumentOnceInAnOrderOfTheirOwn) {
  std::set<std::vector<std::string>> orders;
  for (const int64_t open_files : {1, 3, 8, 20}) {
    CorpusSource interleaved = source(open_files), again = source(open_files), other = source(open_files, 4);
    std::vector<std::string> texts;
    Document document;
    while (interleaved.next(document)) {
      EXPECT_LE(log_->open_readers, std::min<int64_t>(open_files, 10));
      texts.push_back(document.text);
    }
    EXPECT_EQ(std::multiset<std::string>(texts.begin(), texts.end()), all());
    EXPECT_EQ(all_texts(again), texts);
    EXPECT_EQ(all_texts(other) == texts, open_files == 1) << "without a choice no number decides";
    orders.insert(texts);
  }
  EXPECT_EQ(orders.size(), 4u);
}

TEST_F(ShuffledDataTest, FilesOfDifferentSizeEndAtAboutTheSameTime) {
  const std::vector<DataFile> files = {memory_file("large.jsonl", json_lines(std::vector<std::string>(3000, "large"))),
                                       memory_file("small.jsonl", json_lines(std::vector<std::string>(1000, "small")))};
  CorpusSource interleaved("d", files, SetFilter(), 0, {2, 1, 1});
  const std::vector<std::string> texts = all_texts(interleaved);
  ASSERT_EQ(texts.size(), 4000u);
  // A quarter of each stretch of 1000 is small: 250, standard deviation 14.
  for (size_t begin = 0; begin < 3000; begin += 1000)
    EXPECT_NEAR(double(std::count(texts.begin() + long(begin), texts.begin() + long(begin) + 1000, "small")), 250, 70);
}

TEST_F(ShuffledDataTest, AnInterleavedCorpusGoesOnFromAnyPosition) {
  CorpusSource whole = source(4);
  const std::vector<std::string> texts = all_texts(whole);
  CorpusSource interleaved = source(4);
  Document document;
  for (size_t read = 0; read <= texts.size(); ++read) {
    CorpusSource resumed = source(4);
    resumed.set_counts(interleaved.counts());
    resumed.restore(interleaved.position());
    EXPECT_EQ(resumed.position(), interleaved.position());
    EXPECT_EQ(all_texts(resumed), std::vector<std::string>(texts.begin() + long(read), texts.end()));
    EXPECT_EQ(resumed.counts(), whole.counts());
    EXPECT_EQ(interleaved.next(document), read < texts.size());
  }
}

TEST_F(ShuffledDataTest, APositionInAFileThatIsNotThereIsRefused) {
  CorpusSource interleaved = source(4);
  EXPECT_NE(error_message(ExitCode::bad_data,
                          [&] {
                            interleaved.restore({0, 3, {{10, {0, -1}}}});
                          })
                .find("d: the saved position is in file 10, but there are 10 files"),
            std::string::npos);
}

TEST_F(ShuffledDataTest, EveryTokenIsPredictedOnceInEachEpochAndEpochsAreNotMixed) {
  for (const int64_t block : {int64_t{16}, int64_t{40 * 16}, int64_t{100000}}) {  // a row, less than an epoch, many epochs
    settings_.shuffle_tokens = block;
    const int64_t tokens = epoch_tokens();
    std::multiset<int32_t> expected;
    for (const auto& texts : texts_)
      for (const std::string& text : texts) {
        const auto document = document_tokens(tokenizer_, text, false);
        expected.insert(document.begin(), document.end());
      }
    TrainingPacker packed = packer();
    std::vector<int32_t> labels;
    Row row;
    while (int64_t(labels.size()) < 3 * tokens) {
      ASSERT_TRUE(packed.next(row));
      EXPECT_EQ(row.valid_tokens, 16);
      for (size_t t = 0; t + 1 < 16; ++t) ASSERT_EQ(row.labels[t], row.inputs[t + 1]);
      labels.insert(labels.end(), row.labels.begin(), row.labels.end());
    }
    // Rows of one epoch come together, but for the row in which it ends.
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const std::multiset<int32_t> seen(labels.begin() + long(epoch * tokens), labels.begin() + long((epoch + 1) * tokens));
      std::vector<int32_t> missing;
      std::set_difference(expected.begin(), expected.end(), seen.begin(), seen.end(), std::back_inserter(missing));
      EXPECT_LE(missing.size(), 2 * 16u) << "epoch " << epoch << ", blocks of " << block;
    }
  }
}

TEST_F(ShuffledDataTest, ResumingAtAnyRowGivesTheSameRowsCursorsAndCounts) {
  settings_.reset_attention = true;
  for (const int64_t length : {3, 16, 200}) {
    for (const int64_t block : {5, 640, 5000}) {
      settings_.sequence_length = length;
      settings_.shuffle_tokens = block;
      const std::vector<Row> all_rows = rows(120);
      for (size_t start = 0; start + 3 < all_rows.size(); start += 7) {
        const DataCursor cursor = data_cursor_from_json(nlohmann::json::parse(to_json(all_rows[start].next).dump()));
        ASSERT_EQ(cursor, all_rows[start].next);
        TrainingPacker resumed = packer(cursor);
        Row row;
        for (size_t i = start + 1; i < start + 4; ++i) {
          ASSERT_TRUE(resumed.next(row));
          ASSERT_EQ(row.inputs, all_rows[i].inputs) << "row " << i << " of " << length << ", resumed at " << start;
          ASSERT_EQ(row.labels, all_rows[i].labels);
          ASSERT_EQ(row.first_key, all_rows[i].first_key);
          ASSERT_EQ(row.next, all_rows[i].next);
        }
      }
    }
  }
}

TEST_F(ShuffledDataTest, RanksShareOutTheRowsOfOneProcess) {
  const std::vector<Row> single = rows(96);
  for (const int64_t world : {2, 3, 8}) {
    settings_.world = world;
    for (settings_.rank = 0; settings_.rank < world; ++settings_.rank) {
      TrainingPacker part = packer();
      Row row;
      for (size_t k = 0; k < 96 / size_t(world); ++k) {
        ASSERT_TRUE(part.next(row));
        ASSERT_EQ(row.inputs, single[size_t(settings_.rank) + k * size_t(world)].inputs);
        ASSERT_EQ(row.next, single[(k + 1) * size_t(world) - 1].next) << "one cursor for all ranks";
      }
    }
  }
}

TEST_F(ShuffledDataTest, NeighbouringRowsComeFromDifferentDocuments) {
  // Documents of about 30 rows each. In the order of the files nearly all neighbours are of one document.
  std::vector<std::string> texts;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int n = 0; n < 120; ++n) text += " story" + std::to_string(i);
    texts.push_back(text);
  }
  files_ = {memory_file("a.jsonl", json_lines(texts))};
  const auto same_document = [&] {
    // Three inputs in the middle of a row tell which document it is from.
    const std::vector<Row> all_rows = rows(400);
    const auto word = [&](const Row& row) {
      const std::string text = tokenizer_.decode(std::span(row.inputs).subspan(0, 16));
      const size_t begin = text.find("story");
      return begin == std::string::npos ? std::string("?") : text.substr(begin, text.find(' ', begin) - begin);
    };
    int same = 0;
    for (size_t i = 1; i < all_rows.size(); ++i) same += word(all_rows[i]) == word(all_rows[i - 1]);
    return same;
  };
  settings_.shuffle_tokens = 1 << 20;
  EXPECT_LT(same_document(), 40) << "of 399: 1 in 60 is expected";
  settings_.shuffle_tokens = 0;
  EXPECT_GT(same_document(), 200);
}

TEST_F(ShuffledDataTest, SetsAreTakenByTheirWeights) {
  std::string lines;
  const auto text = [](int i, const char* set) { return std::string(set) + " number " + std::to_string(i); };
  for (int i = 0; i < 1000; ++i)
    for (const char* set : {"C4", "Book", "Wikipedia"}) lines += json_line(text(i, set), std::string("RedPajama") + set);
  files_ = {memory_file("a.jsonl", lines)};
  settings_.set_weights = {{"C4", 0.5}, {"RedPajamaBook", 2}};  // Wikipedia has 1
  for (settings_.shuffle_tokens = 0; settings_.shuffle_tokens <= 1000; settings_.shuffle_tokens += 1000) {
    TokenStream stream(settings_, "d", files_, 0, tokenizer_, {});
    std::map<std::string, std::set<std::string>> first;
    std::map<std::string, int> counts;
    int in_both = 0;
    TokenizedDocument document;
    while (document.epoch < 2) {
      if (!stream.next(document) || document.epoch == 2) continue;
      const std::string found = tokenizer_.decode(std::span(document.tokens).first(document.tokens.size() - 1));
      const std::string set = found.substr(0, found.find(' '));
      ++counts[set];
      if (document.epoch == 0)
        EXPECT_TRUE(first[set].insert(found).second) << found << " twice in an epoch";
      else
        in_both += set == "C4" && first[set].contains(found);
    }
    EXPECT_EQ(counts["Book"], 2000);
    // Standard deviations: 22 and 19. Each epoch takes others: 1000 / 16 = 62.5 are in both, deviation 7.7.
    EXPECT_NEAR(counts["Wikipedia"], 1000, 110);
    EXPECT_NEAR(counts["C4"], 500, 95);
    EXPECT_NEAR(in_both, 62.5, 39);
  }
  settings_.set_weights = {{"C4", -1}};
  EXPECT_NE(error_message(ExitCode::config, [&] { packer(); }).find("the set C4 has the weight -1"), std::string::npos);
}

TEST_F(ShuffledDataTest, TheSeedChangesTheOrder) {
  const std::vector<Row> first = rows(40);
  EXPECT_EQ(first[7].inputs, rows(8)[7].inputs);
  settings_.seed = 6;
  const std::vector<Row> second = rows(40);
  int equal = 0;
  for (size_t i = 0; i < 40; ++i) equal += first[i].inputs == second[i].inputs;
  EXPECT_LT(equal, 4);
}

TEST_F(ShuffledDataTest, AResumedRunReadsOneBlockAgainAndNothingBeforeIt) {
  files_.clear();
  for (int f = 0; f < 4; ++f) {
    std::string lines;  // of about 1000 bytes, most of them in a field that is not read
    for (const std::string& text : made_up_texts(4000, 40, uint64_t(f)))
      lines += nlohmann::json{{"other", std::string(1000 - text.size(), 'x')}, {"text", text}}.dump() + "\n";
    files_.push_back(memory_file(std::to_string(f) + ".jsonl", lines, log_));
  }
  settings_.shuffle_tokens = 2000;
  TrainingPacker packed = packer();
  Row row;
  while (row.next.position.draws < 10000) ASSERT_TRUE(packed.next(row));
  const int64_t read = log_->bytes;
  ASSERT_GT(read, int64_t{4} << 20);
  log_->bytes = 0;
  TrainingPacker resumed = packer(row.next);
  ASSERT_TRUE(resumed.next(row));
  // Each open file reads in steps of a buffer of 256 KiB.
  EXPECT_LE(log_->bytes, int64_t{4} << 18);
}

TEST_F(ShuffledDataTest, ACursorOfAnotherWayOfShufflingIsRefusedWithTheKeys) {
  const Row row = rows(1)[0];
  const auto message = [&] { return error_message(ExitCode::config, [&] { packer(row.next); }); };
  settings_.shuffle_tokens = 0;
  EXPECT_NE(message().find("shuffled in blocks of 40 rows, 8 files at a time; now it would be read in the order of the files"),
            std::string::npos)
      << message();
  settings_.shuffle_tokens = 41 * 16;
  EXPECT_NE(message().find("Set data.shuffle and data.shuffle_tokens as they were"), std::string::npos);
  settings_.shuffle_tokens = 40 * 16;
  DataCursor cursor = row.next;
  cursor.row = 40;
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { packer(cursor); }).find("(row 40) is not in a block of 40 rows"),
            std::string::npos);
}

}  // namespace
}  // namespace echo
