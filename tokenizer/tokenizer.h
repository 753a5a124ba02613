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

// Text to token ids and back, by libsentencepiece. Copies share the loaded model; const calls may run on several threads at
// once.
class Tokenizer {
 public:
  // Loads `tokenizer.model` after checking it (tokenizer/model_check.h). Throws Error: input_missing when the file cannot be
  // read, bad_data when it is damaged, with the file's name and what is wrong.
  explicit Tokenizer(const std::filesystem::path& path);

  // Ids of `text`, without begin and end tokens. Bytes that are not valid UTF-8 become U+FFFD, as the library does.
  // The library needs about 100 bytes of memory per byte of text. So a text longer than `chunk_bytes` is given to it in parts,
  // cut at spaces between words, which gives the same ids. (A model whose pieces reach across spaces gets the whole text.)
  // Throws Error (bad_data) for a text above 1 GiB.
  std::vector<int32_t> encode(std::string_view text, size_t chunk_bytes = size_t{256} << 10) const;
  // Text of `ids`. Control tokens give nothing; bytes that do not form a character give U+FFFD. Throws Error (internal) when an
  // id is not in the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;

  int32_t vocabulary_size() const { return vocabulary_size_; }
  int32_t bos_id() const { return bos_id_; }  // -1 when the model has none
  int32_t eos_id() const { return eos_id_; }  // -1 when the model has none
  int32_t unknown_id() const { return unknown_id_; }

  bool is_byte(int32_t id) const;     // one of the pieces <0x00> to <0xFF>
  uint8_t byte_of(int32_t id) const;  // its value

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
  bool words_are_independent_ = false;  // no piece reaches from one word into the next, and a text begins with a space
  int32_t vocabulary_size_ = 0, bos_id_ = -1, eos_id_ = -1, unknown_id_ = -1;
};

// Decodes ids as they arrive. The texts returned by push() and the last finish(), joined, equal decode() of all ids.
// A character made of several byte tokens appears when its last byte has come.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  // The text that this id completes, often empty or one word. Throws Error (internal) when it is not in the vocabulary.
  std::string push(int32_t id);
  // What an unfinished character at the end decodes to. Afterwards the decoder can be used for another text.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::vector<int32_t> window_;  // the ids that the next text depends on: from the last one whose text is certain
  std::string pending_bytes_;    // values of the byte tokens from 0x80 on at the end of window_
  size_t emitted_ = 0;           // bytes of decode(window_) that push has returned
};

}  // namespace echo
