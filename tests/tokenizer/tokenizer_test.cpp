#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/file.h"
#include "base/random.h"
#include "base/utf8.h"
#include "data/jsonl_source.h"
#include "tests/test_support.h"

namespace echo {
namespace {

struct RealTokenizer {
  const char* model;  // below the shared folder
  const char* golden;
};
constexpr RealTokenizer kLlama = {"tokenizers/llama_tokenizer.model", "golden/tokenizer/llama.json"};
constexpr RealTokenizer kStories = {"models/stories260K/tokenizer.model", "golden/tokenizer/stories260K.json"};

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamingDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

class RealTokenizerTest : public ::testing::TestWithParam<RealTokenizer> {
 protected:
  void SetUp() override {
    const auto shared = shared_folder();
    if (!shared) GTEST_SKIP() << kNoSharedFolder;
    model_ = *shared / GetParam().model;
    golden_ = *shared / GetParam().golden;
  }
  fs::path model_, golden_;
};

TEST_P(RealTokenizerTest, ReproducesIdsAndTextOfEveryGoldenString) {
  const Tokenizer tokenizer(model_);
  const auto golden = nlohmann::json::parse(read_file(golden_));
  EXPECT_EQ(tokenizer.vocabulary_size(), golden.at("vocab_size").get<int32_t>());
  EXPECT_EQ(tokenizer.bos_id(), golden.at("bos").get<int32_t>());
  EXPECT_EQ(tokenizer.eos_id(), golden.at("eos").get<int32_t>());
  EXPECT_EQ(tokenizer.unknown_id(), golden.at("unk").get<int32_t>());
  ASSERT_GT(golden.at("rows").size(), 100u);
  for (const auto& row : golden.at("rows")) {
    const auto text = row.at("text").get<std::string>();
    const auto ids = row.at("ids").get<std::vector<int32_t>>();
    const auto decoded = row.at("decoded").get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids), decoded) << text;
    EXPECT_EQ(streamed(tokenizer, ids), decoded) << text;
  }
}

TEST_P(RealTokenizerTest, StreamedTextEqualsDecodedTextForAnyIds) {
  const Tokenizer tokenizer(model_);
  RandomSequence random(7);
  const int32_t space = tokenizer.encode("\xF0\x9F\x91\xBB").front();  // the piece that is a space alone, then bytes
  for (int round = 0; round < 400; ++round) {
    // In a third of the rounds only special and byte tokens, to combine leading spaces with broken characters.
    const uint64_t bound = round % 3 == 0 ? 259 : uint64_t(tokenizer.vocabulary_size());
    std::vector<int32_t> ids(1 + random.below(40));
    for (int32_t& id : ids) {
      id = int32_t(random.below(bound));
      if (random.below(8) == 0) id = int32_t(random.below(3));
      if (random.below(8) == 0) id = space;
    }
    ASSERT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids)) << "round " << round;
  }
}

TEST_P(RealTokenizerTest, StreamsACharacterOnlyWhenItsLastByteHasCome) {
  const Tokenizer tokenizer(model_);
  StreamingDecoder decoder(tokenizer);
  const std::string ghost = "a \xF0\x9F\x91\xBB.";
  std::string text;
  for (const int32_t id : tokenizer.encode(ghost)) {
    const std::string fresh = decoder.push(id);
    EXPECT_TRUE(is_valid_utf8(fresh));
    text += fresh;
  }
  EXPECT_EQ(text, ghost);
}

TEST_P(RealTokenizerTest, WordByWordGivesTheIdsThatTheLibraryGivesForTheWholeText) {
  const Tokenizer tokenizer(model_);
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(model_.string()).ok());
  std::vector<std::string> texts(1);
  const nlohmann::json golden = nlohmann::json::parse(read_file(golden_));
  for (const auto& row : golden.at("rows")) texts[0] += row.at("text").get<std::string>() + "  and ";
  const auto documents = *shared_folder() / "corpora/slimpajama_sample/validation/chunk1/example_holdout_0.jsonl.zst";
  JsonlSource source(local_data_file(documents), SetFilter());
  Document document;
  while (texts.size() < 150 && source.next(document)) texts.push_back(document.text.substr(0, 20000));
  // Signs and spaces in any order: where words begin and end.
  RandomSequence random(5);
  const std::string_view signs[] = {" ",        "  ",           "a", "Z", "9", ".", "(", "\n", "\t", "\xC3\xA9",
                                    "\xC2\xA0", "\xE2\x96\x81", "~"};
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (uint64_t n = random.below(60); n > 0; --n) text += signs[random.below(std::size(signs))];
    texts.push_back(text);
  }
  ASSERT_GT(texts.size(), 400u);
  for (const std::string& text : texts) {
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    ASSERT_EQ(tokenizer.encode(text), expected) << text;
  }
}

TEST_P(RealTokenizerTest, SeveralThreadsEncodeAtOnce) {
  const Tokenizer tokenizer(model_);
  std::vector<std::vector<int32_t>> expected;
  const auto text_of = [](int i) { return "word" + std::to_string(i) + " once upon a time number " + std::to_string(i * 7); };
  for (int i = 0; i < 300; ++i) expected.push_back(Tokenizer(tokenizer).encode(text_of(i)));
  const Tokenizer fresh(model_);
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int i = 0; i < 300; ++i) wrong += fresh.encode(text_of(i)) != expected[size_t(i)];
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST_P(RealTokenizerTest, EncodesAnyBytes) {
  const Tokenizer tokenizer(model_);
  RandomSequence random(11);
  for (int round = 0; round < 300; ++round) {
    std::string text(random.below(200), '\0');
    for (char& c : text) c = char(random.below(round % 2 ? 256 : 8) + (round % 2 ? 0 : 0xBE));
    EXPECT_TRUE(is_valid_utf8(tokenizer.decode(tokenizer.encode(text))));
  }
  EXPECT_TRUE(tokenizer.encode("").empty());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(3, '\0'))), std::string(3, '\0'));
}

TEST_P(RealTokenizerTest, RefusesIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer(model_);
  const std::vector<int32_t> beyond = {tokenizer.vocabulary_size()}, negative = {-1};
  EXPECT_NE(error_message(ExitCode::internal, [&] { tokenizer.decode(beyond); }).find("outside the vocabulary"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::internal, [&] { StreamingDecoder(tokenizer).push(-1); }).find("-1"), std::string::npos);
}

TEST_P(RealTokenizerTest, DamagedModelsGiveAnErrorOrAWorkingTokenizer) {
  // Each mutation flips, cuts, repeats or overwrites a few bytes, with a preference for the settings at the end of the file.
  const std::string original = read_file(model_);
  TemporaryFolder folder;
  RandomSequence random(3);
  const int rounds = original.size() > 100'000 ? 30 : 250;
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string model = original;
    for (uint64_t edits = 1 + random.below(4); edits > 0; --edits) {
      const uint64_t range = random.below(2) ? model.size() : std::min<uint64_t>(model.size(), 256);
      const size_t at = model.size() - 1 - random.below(range);
      switch (random.below(5)) {
        case 0:
          model[at] = char(model[at] ^ (1u << random.below(8)));
          break;
        case 1:
          model[at] = char(random.below(256));
          break;
        case 2:
          model.resize(at + 1);
          break;
        case 3:
          model.insert(at, model.substr(at / 2, random.below(20)));
          break;
        default:
          model.erase(at, random.below(12));
          break;
      }
      if (model.empty()) model.push_back('x');
    }
    write_file(folder / "tokenizer.model", model);
    try {
      const Tokenizer tokenizer(folder / "tokenizer.model");
      const auto ids = tokenizer.encode("Once upon a time \xE2\x82\xAC there was \xFF a 123.\n");
      tokenizer.decode(ids);
      for (int32_t id = 0; id < tokenizer.vocabulary_size(); id += 7) tokenizer.decode(std::vector<int32_t>{id, id, 0});
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(error.code(), ExitCode::bad_data) << error.what();
      EXPECT_NE(std::string(error.what()).find("tokenizer.model"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, rounds / 4) << "the mutations should damage something";
}

INSTANTIATE_TEST_SUITE_P(Real, RealTokenizerTest, ::testing::Values(kLlama, kStories),
                         [](const auto& which) { return which.index == 0 ? "Llama" : "Stories"; });

TEST(TokenizerTest, MissingFileAndForeignFileAreErrorsThatNameTheFile) {
  TemporaryFolder folder;
  EXPECT_NE(error_message(ExitCode::input_missing, [&] { Tokenizer(folder / "none.model"); }).find("none.model"),
            std::string::npos);
  for (const char* content : {"", "{\"model\": {}}", "<html>", "version https://git-lfs.github.com/spec/v1\n"}) {
    write_file_atomically(folder / "foreign.model", content);
    const std::string message = error_message(ExitCode::bad_data, [&] { Tokenizer(folder / "foreign.model"); });
    expect_contains(message, "foreign.model");
    expect_contains(message, "not a SentencePiece model");
  }
}

}  // namespace
}  // namespace echo
