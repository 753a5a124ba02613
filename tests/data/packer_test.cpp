#include "data/packer.h"

#include <gtest/gtest.h>

#include <set>

#include "data/shuffle.h"
#include "data/source_factory.h"
#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

class PackerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int f = 0; f < 4; ++f) {
      texts_.push_back(made_up_texts(6 + f, 12, uint64_t(f)));
      write_corpus_file(file(f), "damaged\n" + json_lines(texts_.back()));
    }
    settings_.sequence_length = 16;
    settings_.max_bad_fraction = 0.5;
    settings_.seed = 5;
  }
  fs::path file(int f) const { return folder_.path() / "data" / (std::to_string(f) + (f % 2 ? ".jsonl" : ".jsonl.zst")); }
  std::vector<DataFile> files() const { return find_data_files((folder_.path() / "data").string()); }
  TrainingPacker packer(const DataCursor& start = {}, double held_out = 0) const {
    return TrainingPacker(settings_, "data", files(), held_out, tokenizer_, start);
  }
  // The stream as defined: epoch after epoch, files permuted, documents in order.
  std::vector<int32_t> stream(int epochs) const {
    std::vector<int32_t> tokens;
    for (int epoch = 0; epoch < epochs; ++epoch)
      for (const int64_t f : file_order(4, settings_.seed, epoch))
        for (const std::string& text : texts_[size_t(f)]) {
          const auto document = document_tokens(tokenizer_, text, settings_.bos_per_document);
          tokens.insert(tokens.end(), document.begin(), document.end());
        }
    return tokens;
  }

  // A packer started at `cursor` gives all[first] and the two rows after it.
  void expect_resumes(const DataCursor& cursor, const std::vector<Row>& all, size_t first) const {
    TrainingPacker resumed = packer(cursor);
    Row row;
    for (size_t i = first; i < first + 3; ++i) {
      ASSERT_TRUE(resumed.next(row));
      ASSERT_EQ(row.inputs, all[i].inputs) << "row " << i << ", resumed at " << first;
      ASSERT_EQ(row.labels, all[i].labels);
      ASSERT_EQ(row.next, all[i].next);
      // A resumed run does not know in which earlier row its first document began. The first keys do not depend on it.
      ASSERT_EQ(row.first_key, all[i].first_key);
    }
  }

  TemporaryFolder folder_;
  Tokenizer tokenizer_ = small_tokenizer(folder_.path());
  std::vector<std::vector<std::string>> texts_;
  DataSettings settings_;
};

TEST_F(PackerTest, RowsAreTheStreamCutWithoutGapOrOverlapOverSeveralEpochs) {
  for (const bool bos : {false, true}) {
    settings_.bos_per_document = bos;
    const std::vector<int32_t> tokens = stream(3);
    TrainingPacker rows = packer();
    Row row;
    for (size_t start = 0; start + 17 <= tokens.size(); start += 16) {
      ASSERT_TRUE(rows.next(row));
      ASSERT_EQ(row.inputs, std::vector<int32_t>(tokens.begin() + long(start), tokens.begin() + long(start) + 16));
      ASSERT_EQ(row.labels, std::vector<int32_t>(tokens.begin() + long(start) + 1, tokens.begin() + long(start) + 17));
      EXPECT_EQ(row.valid_tokens, 16);
      EXPECT_TRUE(row.first_key.empty());
    }
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), tokenizer_.eos_id()), 3 * (6 + 7 + 8 + 9));
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), tokenizer_.bos_id()), bos ? 3 * (6 + 7 + 8 + 9) : 0);
  }
}

TEST_F(PackerTest, ResumingAtAnyRowGivesTheSameRowsCursorsAndCounts) {
  settings_.reset_attention = true;
  for (const int64_t length : {3, 16, 200}) {  // shorter than a document, about one, many
    settings_.sequence_length = length;
    TrainingPacker rows = packer();
    std::vector<Row> all(40);
    for (Row& row : all) ASSERT_TRUE(rows.next(row));
    for (size_t start = 0; start + 3 < all.size(); start += 2) {
      const DataCursor cursor = data_cursor_from_json(nlohmann::json::parse(to_json(all[start].next).dump()));
      EXPECT_EQ(cursor, all[start].next);
      expect_resumes(cursor, all, start + 1);
    }
  }
}

TEST_F(PackerTest, ACursorOfAnEarlierVersionResumesExactly) {
  TrainingPacker rows = packer();
  std::vector<Row> all(40);
  for (Row& row : all) ASSERT_TRUE(rows.next(row));
  for (size_t start = 0; start + 3 < all.size(); start += 3) {
    const nlohmann::json now = to_json(all[start].next);
    nlohmann::json json = {
        {"epoch", now["epoch"]}, {"token", now["token"]}, {"files", now["files"]}, {"counts", now["counts"]}};
    // Earlier versions wrote the position of the document itself, here one after the damaged line.
    json["file"] = now["opened"].empty() ? nlohmann::json(0) : now["opened"][0]["file"];
    json["record"] = now["opened"].empty() ? nlohmann::json(0) : now["opened"][0]["record"];
    const DataCursor cursor = data_cursor_from_json(json);
    TrainingPacker resumed = packer(cursor);
    Row row;
    for (size_t i = start + 1; i < start + 4; ++i) {
      ASSERT_TRUE(resumed.next(row));
      ASSERT_EQ(row.inputs, all[i].inputs) << "row " << i << ", resumed at " << start + 1;
      ASSERT_EQ(row.labels, all[i].labels);
    }
  }
}

// Each row of a long document costs as much as one of a short document. (Copying the document for every row took minutes.)
TEST_F(PackerTest, ALongDocumentGivesItsRowsInOrder) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += " word" + std::to_string(i);
  const std::vector<int32_t> tokens = document_tokens(tokenizer_, text, false);
  settings_.sequence_length = 4;
  TrainingPacker rows(settings_, "data", {memory_file("a.jsonl", json_line(text))}, 0, tokenizer_, {});
  Row row;
  ASSERT_GT(tokens.size(), size_t{400000});
  for (size_t start = 0; start + 5 <= tokens.size(); start += 4) {
    ASSERT_TRUE(rows.next(row));
    ASSERT_TRUE(std::equal(row.inputs.begin(), row.inputs.end(), tokens.begin() + long(start)));
    ASSERT_EQ(row.labels.back(), tokens[start + 4]);
  }
}

TEST_F(PackerTest, RanksShareOutTheRowsOfOneProcess) {
  TrainingPacker single = packer();
  std::vector<Row> all(48);
  for (Row& row : all) ASSERT_TRUE(single.next(row));
  for (const int64_t world : {1, 2, 4}) {
    settings_.world = world;
    for (settings_.rank = 0; settings_.rank < world; ++settings_.rank) {
      TrainingPacker part = packer();
      Row row;
      for (size_t k = 0; k < 24 / size_t(world); ++k) {
        ASSERT_TRUE(part.next(row));
        const size_t n = size_t(settings_.rank) + k * size_t(world);
        ASSERT_EQ(row.inputs, all[n].inputs) << "row " << k << " of rank " << settings_.rank << " of " << world;
        ASSERT_EQ(row.labels, all[n].labels);
        ASSERT_EQ(row.next, all[(k + 1) * size_t(world) - 1].next) << "one cursor for all ranks";
      }
    }
  }
}

TEST_F(PackerTest, ACursorOfAllRanksCanBeResumedWithAnotherNumberOfRanks) {
  TrainingPacker single = packer();
  std::vector<Row> all(48);
  for (Row& row : all) ASSERT_TRUE(single.next(row));
  Row last;
  settings_.world = 4;
  settings_.rank = 1;
  TrainingPacker part = packer();
  for (int k = 0; k < 6; ++k) ASSERT_TRUE(part.next(last));
  for (const int64_t world : {1, 2, 4}) {
    settings_.world = world;
    for (settings_.rank = 0; settings_.rank < world; ++settings_.rank) {
      TrainingPacker resumed = packer(last.next);
      Row row;
      for (size_t n = 24 + size_t(settings_.rank); n < all.size(); n += size_t(world)) {
        ASSERT_TRUE(resumed.next(row));
        ASSERT_EQ(row.inputs, all[n].inputs) << "row " << n << " with " << world << " ranks";
      }
    }
  }
}

TEST_F(PackerTest, ARankThatDoesNotExistIsRefused) {
  settings_.world = 2;
  for (settings_.rank = -1; settings_.rank <= 2; settings_.rank += 3)
    EXPECT_NE(error_message(ExitCode::internal, [&] { packer(); }).find("of 2 processes"), std::string::npos);
}

TEST_F(PackerTest, FirstKeyIsWhereTheTokensDocumentBeginsInTheRow) {
  settings_.reset_attention = true;
  settings_.sequence_length = 50;
  TrainingPacker rows = packer();
  Row row;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(rows.next(row));
    int32_t first = 0;
    for (size_t t = 0; t < 50; ++t) {
      ASSERT_EQ(row.first_key[t], first);
      if (row.inputs[t] == tokenizer_.eos_id()) first = int32_t(t) + 1;
    }
  }
}

TEST_F(PackerTest, HeldOutAndTrainingDocumentsPartTheCorpus) {
  settings_.sequence_length = 8;
  const double fraction = 0.3;
  std::set<std::string> held_out;
  int64_t training_documents = 0;
  for (const auto& texts : texts_)
    for (const std::string& text : texts)
      is_held_out(text, fraction) ? void(held_out.insert(text)) : void(++training_documents);
  ASSERT_GT(held_out.size(), 2u);
  ASSERT_GT(training_documents, 10);

  const auto texts_of = [&](const std::vector<int32_t>& ids) {
    std::multiset<std::string> texts;
    for (size_t begin = 0; begin < ids.size();) {
      const auto end = size_t(std::find(ids.begin() + long(begin), ids.end(), tokenizer_.eos_id()) - ids.begin());
      if (end > begin && end < ids.size()) texts.insert(tokenizer_.decode(std::span(ids).subspan(begin, end - begin)));
      begin = end + 1;
    }
    return texts;
  };
  HeldOutPacker held(settings_, "data", files(), fraction, tokenizer_);
  Row row;
  std::vector<int32_t> ids;
  while (held.next(row)) ids.insert(ids.end(), row.inputs.begin(), row.inputs.end());
  ids.push_back(tokenizer_.eos_id());  // the last one may be a label only
  EXPECT_EQ(texts_of(ids), std::multiset<std::string>(held_out.begin(), held_out.end()));

  TrainingPacker training = packer({}, fraction);
  std::vector<int32_t> seen;
  do {
    ASSERT_TRUE(training.next(row));
    seen.insert(seen.end(), row.inputs.begin(), row.inputs.end());
  } while (row.next.epoch < 2);
  const auto trained = texts_of(seen);
  EXPECT_GE(int64_t(trained.size()), 2 * training_documents);
  for (const std::string& text : trained) EXPECT_FALSE(held_out.contains(text)) << text;
}

TEST_F(PackerTest, HeldOutRowsPredictEachTokenOnceAndIgnoreThePadding) {
  settings_.reset_attention = true;
  std::vector<int32_t> tokens;
  for (const auto& texts : texts_)
    for (const std::string& text : texts) {
      const auto document = document_tokens(tokenizer_, text, false);
      tokens.insert(tokens.end(), document.begin(), document.end());
    }
  for (const int64_t length : {7, 16, 64, 100000, int(tokens.size()) - 1, int(tokens.size())}) {
    settings_.sequence_length = length;
    HeldOutPacker packer(settings_, "data", files(), 1.0, tokenizer_);
    Row row;
    std::vector<int32_t> labels;
    int64_t valid = 0;
    while (packer.next(row)) {
      ASSERT_EQ(int64_t(row.inputs.size()), length);
      ASSERT_EQ(int64_t(row.labels.size()), length);
      ASSERT_EQ(int64_t(row.first_key.size()), length);
      EXPECT_GT(row.valid_tokens, 0);
      for (size_t t = 0; t < size_t(length); ++t) {
        if (row.labels[t] == kIgnoredLabel) continue;
        EXPECT_EQ(row.inputs[t], tokens[labels.size()]);
        labels.push_back(row.labels[t]);
      }
      for (size_t t = size_t(row.valid_tokens) + 1; t < size_t(length); ++t) EXPECT_EQ(row.inputs[t], tokenizer_.eos_id());
      valid += row.valid_tokens;
    }
    EXPECT_EQ(labels, std::vector<int32_t>(tokens.begin() + 1, tokens.end())) << length;
    EXPECT_EQ(valid, int64_t(tokens.size()) - 1);
  }
}

TEST_F(PackerTest, EmptyDataIsBadDataWithPathAndReasons) {
  write_corpus_file(folder_ / "empty/a.jsonl", "\n{\"text\": \"\"}\n{\"text\": \"\"}\n");
  TrainingPacker rows(settings_, "my/path", {local_data_file(folder_ / "empty/a.jsonl")}, 0, tokenizer_, {});
  Row row;
  const std::string message = error_message(ExitCode::bad_data, [&] { rows.next(row); });
  EXPECT_NE(message.find("my/path: no documents to train on: 0 of 2 records are bad: 2 with an empty text"), std::string::npos)
      << message;
}

TEST_F(PackerTest, PositionOfOtherDataOrADamagedOneIsRefused) {
  TrainingPacker rows = packer();
  Row row;
  ASSERT_TRUE(rows.next(row));
  DataCursor cursor = row.next;
  cursor.token = 1000;
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { packer(cursor).next(row); }).find("token 1000) is not in the data"),
            std::string::npos);
  write_corpus_file(file(0), json_lines({"other"}));
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { packer(row.next); }).find("not the data files the saved run was reading"),
            std::string::npos);
  nlohmann::json json = to_json(row.next);
  for (const auto& damage : {R"({"epoch": -1})", R"({"draws": "x"})", R"({"opened": [{"file": 0, "record": 0, "byte": -5}]})",
                             R"({"counts": null})", R"({"token": 1.5})"}) {
    nlohmann::json damaged = json;
    damaged.merge_patch(nlohmann::json::parse(damage));
    EXPECT_NE(error_message(ExitCode::bad_data, [&] { data_cursor_from_json(damaged); }).find("saved data position is damaged"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace echo
