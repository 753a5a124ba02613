#include "tokenizer/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "tokenizer/model_check.h"
#include "tokenizer/word_cache.h"

// The library exports this function but declares it in none of its installed headers.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);
}

namespace echo {
namespace {

constexpr size_t kLargestModel = size_t{256} << 20;  // bytes; the largest public ones have about 5 MB
constexpr size_t kLargestText = size_t{1} << 30;     // the library counts in int, and may use three bytes for one of the text

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which the library writes for a space

// Takes the next word off the front of a text, and the space after it, which the library puts back before the next word. Words
// end at a space with a visible character of ASCII on both sides. Elsewhere normalization may join what surrounds a space.
std::string_view next_word(std::string_view& text) {
  const auto visible = [&](size_t i) { return std::isgraph(static_cast<unsigned char>(text[i])) != 0; };
  size_t end = text.size();
  for (size_t at = text.find(' ', 1); at < text.size() - 1; at = text.find(' ', at + 1)) {
    if (!visible(at - 1) || !visible(at + 1)) continue;
    end = at;
    break;
  }
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

bool pieces_stay_within_words(const sentencepiece::SentencePieceProcessor& processor) {
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    std::string_view piece = processor.IdToPiece(id);
    while (piece.starts_with(kSpace)) piece.remove_prefix(kSpace.size());
    if (piece.find(kSpace) != std::string_view::npos || piece.find(' ') != std::string_view::npos) return false;
  }
  std::vector<int> first;
  return processor.Encode("a", &first).ok() && !first.empty() && processor.IdToPiece(first[0]).starts_with(kSpace);
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& path) {
  std::error_code ignored;
  if (const auto size = fs::file_size(path, ignored); !ignored && size > kLargestModel)
    fail(ExitCode::bad_data, path.string(), ": not a SentencePiece model: ", size, " bytes are too many");
  const std::string model = read_file(path);
  check_tokenizer_model(model, path.string());

  static std::once_flag quiet;
  std::call_once(quiet, [] { sentencepiece::logging::SetMinLogLevel(2); });  // errors only: a library must not print
  auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  try {
    if (const auto status = processor->LoadFromSerializedProto(absl::string_view(model.data(), model.size())); !status.ok())
      fail(ExitCode::bad_data, path.string(), ": not a usable SentencePiece model: ", status.message());
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // its trie builder throws
    fail(ExitCode::bad_data, path.string(), ": not a usable SentencePiece model: ", error.what());
  }
  vocabulary_size_ = processor->GetPieceSize();
  bos_id_ = processor->bos_id();
  eos_id_ = processor->eos_id();
  unknown_id_ = processor->unk_id();
  if (pieces_stay_within_words(*processor)) words_ = std::make_shared<WordCache>();
  processor_ = std::move(processor);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  if (text.size() > kLargestText) fail(ExitCode::bad_data, "a text of ", text.size(), " bytes is too long to be tokenized");
  const auto encode_part = [this](std::string_view part, std::vector<int32_t>& ids) {
    const auto status = processor_->Encode(absl::string_view(part.data(), part.size()), &ids);
    if (!status.ok()) fail(ExitCode::bad_data, "a text cannot be tokenized: ", status.message());
  };
  std::vector<int32_t> ids;
  if (words_)
    words_->encode(text, next_word, encode_part, ids);
  else
    encode_part(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids)
    ECHO_CHECK(id >= 0 && id < vocabulary_size_, "token id ", id, " is outside the vocabulary of ", vocabulary_size_);
  std::string text;
  const auto status = processor_->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  ECHO_CHECK(status.ok(), "decoding failed: ", status.message());
  return text;
}

bool Tokenizer::is_byte(int32_t id) const { return processor_->IsByte(id); }

uint8_t Tokenizer::byte_of(int32_t id) const {
  return static_cast<uint8_t>(std::strtol(processor_->IdToPiece(id).c_str() + 1, nullptr, 16));  // "<0x41>"
}

std::string StreamingDecoder::push(int32_t id) {
  ECHO_CHECK(id >= 0 && id < tokenizer_.vocabulary_size(), "token id ", id, " is outside the vocabulary of ",
             tokenizer_.vocabulary_size());
  window_.push_back(id);
  if (tokenizer_.is_byte(id) && tokenizer_.byte_of(id) >= 0x80)
    pending_bytes_ += static_cast<char>(tokenizer_.byte_of(id));
  else
    pending_bytes_.clear();  // an ordinary token or an ASCII byte ends every sequence
  const size_t held_back = incomplete_utf8_tail(pending_bytes_);
  const std::string text = tokenizer_.decode(std::span(window_).first(window_.size() - held_back));
  std::string fresh = text.substr(emitted_);
  emitted_ = text.size();
  if (pending_bytes_.empty()) {
    // This token gave text and is not part of a longer character, so later text does not depend on earlier tokens.
    const std::vector<int32_t> anchor = {id};
    if (const size_t alone = tokenizer_.decode(anchor).size(); alone > 0) {
      window_ = anchor;
      emitted_ = alone;
    }
  }
  return fresh;
}

std::string StreamingDecoder::finish() {
  std::string fresh = tokenizer_.decode(window_).substr(emitted_);
  *this = StreamingDecoder(tokenizer_);
  return fresh;
}

}  // namespace echo
