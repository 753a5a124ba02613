#include "tokenizer/training.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "tokenizer/model_check.h"

namespace echo {
namespace {

constexpr int32_t kSmallestVocabulary = 260;  // three special pieces, 256 bytes, the space
constexpr size_t kLongestLine = 64 << 10;     // bytes; a longer line is cut, between two characters

// Passes the texts to the library line by line, because the library treats each text as one unit, and a newline as an ordinary
// character.
class LineIterator : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::function<bool(std::string&)>& next_text) : next_text_(next_text) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    do {
      while (position_ >= text_.size()) {
        position_ = 0;
        if (!next_text_(text_)) {
          done_ = true;
          return;
        }
        if (!is_valid_utf8(text_)) text_.clear();
      }
      size_t end = std::min(text_.find('\n', position_), text_.size());
      if (end - position_ > kLongestLine) {
        end = position_ + kLongestLine;
        while ((static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) --end;
        line_ = text_.substr(position_, end - position_);
        position_ = end;
      } else {
        line_ = text_.substr(position_, end - position_);
        position_ = end + 1;
      }
    } while (line_.find_first_not_of(" \t\r") == std::string::npos);
    any_ = true;
  }

  bool any() const { return any_; }

 private:
  const std::function<bool(std::string&)>& next_text_;
  std::string text_, line_;
  size_t position_ = 0;
  bool done_ = false, any_ = false;
};

// The library's messages begin with its source file and condition. The text for the user comes last.
std::string readable(std::string_view message) {
  const size_t cut = message.rfind("] ");
  return std::string(cut == std::string_view::npos ? message : message.substr(cut + 2));
}

}  // namespace

void train_tokenizer(const std::function<bool(std::string&)>& next_text, int32_t vocabulary_size,
                     const std::filesystem::path& output) {
  if (vocabulary_size < kSmallestVocabulary)
    fail(ExitCode::config, "a vocabulary of ", vocabulary_size, " is too small, expected at least ", kSmallestVocabulary,
         " (3 special pieces, 256 bytes, the space)");
  LineIterator lines(next_text);
  if (!lines.any()) fail(ExitCode::bad_data, output.string(), ": no text to train a tokenizer on");
  const std::unordered_map<std::string, std::string> settings = {
      {"minloglevel", "3"},
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(vocabulary_size)},
      {"byte_fallback", "true"},
      {"split_digits", "true"},
      {"allow_whitespace_only_pieces", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"character_coverage", "0.9999"},
      {"max_sentence_length", std::to_string(kLongestLine + 1)},
      {"unk_surface", " \xE2\x81\x87 "},
      {"num_threads", "1"},
  };
  std::string model;
  try {
    const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model);
    if (!status.ok())
      fail(ExitCode::config, "a tokenizer of ", vocabulary_size,
           " pieces cannot be trained on these texts: ", readable(status.message()));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ExitCode::config, "training the tokenizer failed: ", error.what());
  }
  check_tokenizer_model(model, output.string());
  write_file_atomically(output, model);
}

void train_tokenizer(const std::vector<std::string>& texts, int32_t vocabulary_size, const std::filesystem::path& output) {
  size_t next = 0;
  train_tokenizer(
      [&](std::string& text) {
        if (next == texts.size()) return false;
        text = texts[next++];
        return true;
      },
      vocabulary_size, output);
}

}  // namespace echo
