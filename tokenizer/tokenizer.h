#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace echo {

class WordCache;

// Text to token ids and back, by libsentencepiece. Copies share the loaded model; const calls may run on several threads at
// once.
class Tokenizer {
 public:
  // Loads `tokenizer.model` after checking it (tokenizer/model_check.h). Throws Error: input_missing when the file cannot be
  // read, bad_data when it is damaged, with the file's name and what is wrong.
  explicit Tokenizer(const std::filesystem::path& path);

  // Ids of `text`, without begin and end tokens. Bytes that are not valid UTF-8 become U+FFFD, as the library does.
  // The library gets one word at a time, and only words that were not seen before. That gives the same ids in less time and
  // memory. (A model whose pieces reach across spaces gets the whole text, which takes about 100 bytes of memory per byte.)
  // Throws Error (bad_data) for a text above 1 GiB.
  std::vector<int32_t> encode(std::string_view text) const;
  // Text of `ids`. Control tokens give nothing; bytes that do not form a character give U+FFFD. Throws Error (internal) when an
  // id is not in the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;

  int32_t vocabulary_size() const { return vocabulary_size_; }
  int32_t bos_id() const { return bos_id_; }  // -1 when the model has none
  int32_t eos_id() const { return eos_id_; }  // -1 when the model has none
  int32_t unknown_id() const { return unknown_id_; }

  bool is_byte(int32_t id) const;     // true for the pieces <0x00> to <0xFF>
  uint8_t byte_of(int32_t id) const;  // its value

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
  std::shared_ptr<WordCache> words_;  // when no piece reaches from one word into the next, and a text begins with a space
  int32_t vocabulary_size_ = 0, bos_id_ = -1, eos_id_ = -1, unknown_id_ = -1;
};

// Decodes ids one by one. The concatenated texts of all push() calls and the last finish() equal decode() of all ids. A
// character that consists of several byte tokens appears with its last byte.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  // The text that this id completes: often nothing, or one word. Throws Error (internal) when the id is not in the vocabulary.
  std::string push(int32_t id);
  // The text of an unfinished character at the end. Afterwards the decoder can decode another text.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::vector<int32_t> window_;  // the ids that the next text depends on, beginning with the last one whose text is final
  std::string pending_bytes_;    // values of the byte tokens from 0x80 on at the end of window_
  size_t emitted_ = 0;           // bytes of decode(window_) that push has returned
};

}  // namespace echo
