#include "tokenizer/training.h"

#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/test_support.h"
#include "tokenizer/model_check.h"
#include "tokenizer/tokenizer.h"

namespace echo {
namespace {

std::vector<std::string> some_texts() {
  const std::vector<std::string> subjects = {"The little fox", "A grey owl", "My sister Mia", "The baker"},
                                 verbs = {"found", "carried", "painted", "lost"},
                                 objects = {"a red ball", "the old key", "two blue stones", "caf\xC3\xA9 bread"};
  std::vector<std::string> texts;
  RandomSequence random(1);
  for (int i = 0; i < 300; ++i)
    texts.push_back(subjects[random.below(4)] + " " + verbs[random.below(4)] + " " + objects[random.below(4)] + " in 19" +
                    std::to_string(random.below(100)) + ".\n\nThen it rained.");
  return texts;
}

TEST(TokenizerTrainingTest, TrainedModelHasLlamaIdsRoundTripsAndIsTheSameEachTime) {
  TemporaryFolder folder;
  train_tokenizer(some_texts(), 320, folder / "first.model");
  train_tokenizer(some_texts(), 320, folder / "second.model");
  EXPECT_EQ(read_file(folder / "first.model"), read_file(folder / "second.model"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2) << "no other file is left behind";
  const Tokenizer tokenizer(folder / "first.model");
  EXPECT_EQ(tokenizer.vocabulary_size(), 320);
  EXPECT_EQ(tokenizer.unknown_id(), 0);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_TRUE(tokenizer.is_byte(3));
  for (const std::string& text : {some_texts()[0], std::string("  two  spaces \t tab\n\xF0\x9F\x91\xBB 1984")})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_LT(tokenizer.encode("The little fox").size(), 10u) << "frequent words have pieces of their own";
}

TEST(TokenizerTrainingTest, ImpossibleSizesAndEmptyTextsAreErrors) {
  TemporaryFolder folder;
  const auto output = folder / "x.model";
  EXPECT_NE(error_message(ExitCode::config, [&] { train_tokenizer(some_texts(), 100, output); }).find("at least 260"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { train_tokenizer(some_texts(), 262, output); }).find("262 pieces"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::config, [&] { train_tokenizer(some_texts(), 30000, output); }).find("30000 pieces"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::bad_data,
                          [&] {
                            train_tokenizer({"", " \n "}, 300, output);
                          })
                .find("no text"),
            std::string::npos);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 0);
}

TEST(TokenizerTrainingTest, RealNormalisationRulesPassTheCheckAndDamagedOnesNeverCrash) {
  // The library's own compiled NFKC rules: a real double array, and fifty thousand places to damage it.
  class Lines : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return at_ == texts_.size(); }
    void Next() override { ++at_; }
    const std::string& value() const override { return texts_[at_]; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    std::vector<std::string> texts_ = some_texts();
    size_t at_ = 0;
  } lines;
  std::string model;
  ASSERT_TRUE(
      sentencepiece::SentencePieceTrainer::Train(
          {{"model_type", "unigram"}, {"vocab_size", "60"}, {"normalization_rule_name", "nmt_nfkc"}, {"minloglevel", "3"}},
          &lines, &model)
          .ok());
  ASSERT_GT(model.size(), 100'000u);
  check_tokenizer_model(model, "nfkc");
  TemporaryFolder folder;
  RandomSequence random(5);
  int refused = 0;
  for (int round = 0; round < 40; ++round) {
    std::string damaged = model;
    for (int i = 0; i < 1 << (round % 8); ++i) {
      const size_t at = random.below(damaged.size());
      damaged[at] = char(damaged[at] ^ (1u << random.below(8)));
    }
    write_file(folder / "damaged.model", damaged);
    try {
      const Tokenizer tokenizer(folder / "damaged.model");
      for (const char* text :
           {"The \xEF\xAC\x81sh \xE2\x91\xA0 \xEF\xBC\xA1\xCC\x81 \xE3\x8E\x8F \xEA\xB0\x80", "\xFF\x80 plain"})
        tokenizer.decode(tokenizer.encode(text));
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(error.code(), ExitCode::bad_data);
    }
  }
  EXPECT_GT(refused, 5);
}

}  // namespace
}  // namespace echo
